"""RabbitMQ and Erlang from the distribution's packages, unpacked into a private folder.

No root and no change to the system: apt and dpkg only read the machine's configuration, everything they write goes
into our folder.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.local.infra.errors import InfraError

WANTED = "rabbitmq-server"
# The closure of the package also holds what its system service needs (logrotate, adduser, socat): not for us.
NEEDED = re.compile(r"^(rabbitmq-server|erlang-.+|lib.+)$")
APT_TIMEOUT_S = 300
STATUS = Path("/var/lib/dpkg/status")


class AptError(Exception):
    """apt or dpkg refused; the text is its own."""


def unpacked(folder: Path) -> Path:
    """The root of the unpacked packages in `folder`, downloading them on first use (about 35 MB).

    Several processes may call this at once: one does the work, the others wait for it.
    Raises InfraError where apt is missing or does not offer the packages.
    """
    folder = folder.absolute()
    root = folder / "rabbitmq"
    if not root.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "lock"):
            if not root.exists():
                _download(folder, root)
    relocate(root)
    return root


def relocate(root: Path) -> None:
    """Tell Erlang's start scripts where they are: Debian builds the absolute path into them."""
    erlang = root / "usr/lib/erlang"
    for script in [*erlang.glob("bin/erl"), *erlang.glob("erts-*/bin/erl")]:
        text = script.read_text()
        moved = re.sub(r"(?m)^(\s*)ROOTDIR=.*$", lambda match: f'{match[1]}ROOTDIR="{erlang}"', text)
        if moved != text:
            new = script.with_name(f".erl.{os.getpid()}")
            new.write_text(moved)
            new.chmod(0o755)
            new.replace(script)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(folder: Path, root: Path) -> None:
    missing = [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]
    if missing:
        raise InfraError(
            "RabbitMQ's packages cannot be downloaded.",
            f"This machine has no {missing[0]}: it is not a Debian or Ubuntu.",
            "Install rabbitmq-server, start Docker, or give a RabbitMQ URL.",
        )
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    (work / "debs").mkdir(parents=True)
    try:
        try:
            # The machine's own lists first: they are there on most machines, and save downloading them.
            _fetch(work, _options(work, private_lists=False))
        except AptError:
            options = _options(work, private_lists=True)
            # Exits with an error when any one source fails, also a third party's; what counts comes next.
            _run(["apt-get", *options, "update"], work, check=False)
            _fetch(work, options)
        tree = work / "root"
        for package in sorted((work / "debs").glob("*.deb")):
            _run(["dpkg", "-x", str(package), str(tree)], work)
        tree.rename(root)
    except AptError as error:
        raise InfraError(
            "RabbitMQ's packages could not be downloaded from this machine's package sources.",
            f"apt says: {error}",
            "Check the network, install rabbitmq-server, start Docker, or give a RabbitMQ URL.",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fetch(work: Path, options: Sequence[str]) -> None:
    plan = _run(["apt-get", *options, "--simulate", "--no-install-recommends", "install", WANTED], work)
    # Inst erlang-base (1:25.2.3+dfsg-1 Debian:12 [amd64])
    found = re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", plan, flags=re.MULTILINE)
    wanted = [f"{name}={version}" for name, version in found if NEEDED.match(name)]
    _run(["apt-get", *options, "download", *wanted], work / "debs")


def _options(work: Path, *, private_lists: bool) -> list[str]:
    """Options that give apt private state, also a status file in which no Erlang is installed.

    So the plan holds all of it: a half of Erlang in the system and half here would be two trees where Erlang knows one.
    """
    state, cache = work / "state", work / "cache"
    for path in (state / "lists/partial", cache / "archives/partial"):
        path.mkdir(parents=True, exist_ok=True)
    status = work / "status"
    stanzas = STATUS.read_text(errors="replace").split("\n\n") if STATUS.exists() else []
    ours = re.compile(r"^Package: (rabbitmq-server|erlang-.+)$", flags=re.MULTILINE)
    status.write_text("\n\n".join(stanza for stanza in stanzas if not ours.search(stanza)) + "\n")
    options = {
        "Dir::State::status": status,
        "Dir::State::extended_states": state / "extended_states",
        "Dir::Cache": cache,
        # As root apt becomes the user _apt, who may not write here.
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
        "Debug::NoLocking": "1",
    }
    if private_lists:
        options["Dir::State::lists"] = state / "lists"
    return [part for name, value in options.items() for part in ("-o", f"{name}={value}")]


def _run(argv: Sequence[str], cwd: Path, *, check: bool = True) -> str:
    env = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            argv, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=APT_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise AptError(f"{argv[0]} did not finish within {APT_TIMEOUT_S} s") from error
    if check and done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        raise AptError("; ".join(lines[:3]) or f"{argv[0]} ended with exit code {done.returncode}")
    return done.stdout
