"""Programs from the distribution's packages, unpacked into a private folder: RabbitMQ with Erlang, and others.

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
from dataclasses import dataclass
from pathlib import Path

from deploy.local.infra.errors import InfraError

APT_TIMEOUT_S = 300
STATUS = Path("/var/lib/dpkg/status")


# Without slots: the bootstrap imports this also with a Python that is too old, to say so.
@dataclass(frozen=True)
class Bundle:
    """A package and those of its closure that are of use to us.

    `ours` are planned as if they were not installed, so that the tree holds all of them; `needed` are downloaded.
    """

    name: str
    wanted: tuple[str, ...]
    needed: re.Pattern[str]
    ours: re.Pattern[str]
    otherwise: str
    """What a person can do where there is no such package."""

    @property
    def folder(self) -> str:
        return self.name.lower()


RABBITMQ = Bundle(
    "RabbitMQ",
    wanted=("rabbitmq-server",),
    # The closure of the package also holds what its system service needs (logrotate, adduser, socat): not for us.
    needed=re.compile(r"^(rabbitmq-server|erlang-.+|lib.+)$"),
    # A half of Erlang in the system and half here would be two trees where Erlang knows one.
    ours=re.compile(r"^(rabbitmq-server|erlang-.+)$"),
    otherwise="install rabbitmq-server, start Docker, or give a RabbitMQ URL.",
)


class AptError(Exception):
    """apt or dpkg refused; the text is its own."""


def unpacked(folder: Path) -> Path:
    """The root of RabbitMQ's unpacked packages in `folder`, downloading them on first use (about 35 MB).

    Raises InfraError where apt is missing or does not offer the packages.
    """
    root = provide(RABBITMQ, folder)
    relocate(root)
    return root


def provide(bundle: Bundle, folder: Path) -> Path:
    """The root of a bundle's unpacked packages, a folder in `folder`, downloading them on first use.

    Several processes may call this at once: one does the work, the others wait for it.
    Raises InfraError where apt is missing or does not offer the packages.
    """
    folder = folder.absolute()
    root = folder / bundle.folder
    if not root.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "lock"):
            if not root.exists():
                _download(bundle, folder, root)
    return root


def relocate(root: Path) -> None:
    """Tell Erlang's start scripts where they are: Debian builds the absolute path into them."""
    # By the way without links: several homes may share the packages through one, and each would write its own.
    erlang = (root / "usr/lib/erlang").resolve()
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


def _download(bundle: Bundle, folder: Path, root: Path) -> None:
    missing = [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]
    if missing:
        raise InfraError(
            f"{bundle.name}'s packages cannot be downloaded.",
            f"This machine has no {missing[0]}: it is not a Debian or Ubuntu.",
            bundle.otherwise[0].upper() + bundle.otherwise[1:],
        )
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    (work / "debs").mkdir(parents=True)
    try:
        try:
            # The machine's own lists first: they are there on most machines, and save downloading them.
            _fetch(bundle, work, _options(bundle, work, private_lists=False))
        except AptError:
            options = _options(bundle, work, private_lists=True)
            # Exits with an error when any one source fails, also a third party's; what counts comes next.
            _run(["apt-get", *options, "update"], work, check=False)
            _fetch(bundle, work, options)
        tree = work / "root"
        for package in sorted((work / "debs").glob("*.deb")):
            _run(["dpkg", "-x", str(package), str(tree)], work)
        tree.rename(root)
    except AptError as error:
        raise InfraError(
            f"{bundle.name}'s packages could not be downloaded from this machine's package sources.",
            f"apt says: {error}",
            f"Check the network, {bundle.otherwise}",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fetch(bundle: Bundle, work: Path, options: Sequence[str]) -> None:
    plan = _run(["apt-get", *options, "--simulate", "--no-install-recommends", "install", *bundle.wanted], work)
    # Inst erlang-base (1:25.2.3+dfsg-1 Debian:12 [amd64])
    found = re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", plan, flags=re.MULTILINE)
    wanted = [f"{name}={version}" for name, version in found if bundle.needed.match(name)]
    _run(["apt-get", *options, "download", *wanted], work / "debs")


def _options(bundle: Bundle, work: Path, *, private_lists: bool) -> list[str]:
    """Options that give apt private state, also a status file in which nothing of ours is installed."""
    state, cache = work / "state", work / "cache"
    for path in (state / "lists/partial", cache / "archives/partial"):
        path.mkdir(parents=True, exist_ok=True)
    status = work / "status"
    stanzas = STATUS.read_text(errors="replace").split("\n\n") if STATUS.exists() else []
    kept = [stanza for stanza in stanzas if not bundle.ours.match(_package(stanza))]
    status.write_text("\n\n".join(kept) + "\n")
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


def _package(stanza: str) -> str:
    """The name in a stanza of dpkg's status."""
    found = re.search(r"^Package: (.+)$", stanza, flags=re.MULTILINE)
    return found[1] if found else ""


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
