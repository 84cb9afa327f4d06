"""Under which identity PostgreSQL runs, which refuses to be root and must have a name (initdb)."""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.local.infra.errors import InfraError

UNPRIVILEGED = "nobody"

# Succeeds where this machine lets us have a user namespace, in a process of its own.
_PROBE = "import runpy, sys; runpy.run_path(sys.argv[1])['enter_user_namespace'](int(sys.argv[2]), int(sys.argv[3]))"


@dataclass(frozen=True)
class Identity:
    """`namespace` for `guarded.Command`, a prefix for its argv, and the owner (outside) its files must have."""

    namespace: tuple[int, int] | None = None
    prefix: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None


def has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


@functools.cache
def choose() -> Identity:
    """As we are; else renamed in a user namespace; else, as root, really another user.

    The namespace changes nothing on disk: files stay ours, and folders that only we may enter stay reachable.
    Containers often forbid it. There root becomes `nobody` for this one program and keeps the right to pass
    folders, so that no permission on the way to the binaries or the data has to be loosened.

    Raises InfraError where neither is possible.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0 and has_name(uid):
        return Identity()
    try:
        other = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        other = pwd.struct_passwd((UNPRIVILEGED, "", 65534, 65534, "", "/", ""))
    if has_name(other.pw_uid) and _may_have_namespace(other.pw_uid, other.pw_gid):
        return Identity(namespace=(other.pw_uid, other.pw_gid), owner=(uid, gid))
    return drop_root(other.pw_uid, other.pw_gid)


def drop_root(uid: int, gid: int) -> Identity:
    setpriv = shutil.which("setpriv")
    if os.geteuid() == 0 and setpriv is not None:
        flags = ("--clear-groups", "--inh-caps=+dac_override", "--ambient-caps=+dac_override")
        return Identity(
            prefix=(setpriv, f"--reuid={uid}", f"--regid={gid}", *flags, "--pdeathsig=KILL", "--"),
            owner=(uid, gid),
        )
    raise InfraError(
        f"PostgreSQL cannot run as user id {os.geteuid()}.",
        "It refuses root and users without a name; there are no user namespaces here, and no setpriv for root.",
        "Run this as an ordinary user, install util-linux, or give the URL of a PostgreSQL.",
    )


def _may_have_namespace(uid: int, gid: int) -> bool:
    guard = Path(__file__).with_name("guard.py")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _PROBE, str(guard), str(uid), str(gid)],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
