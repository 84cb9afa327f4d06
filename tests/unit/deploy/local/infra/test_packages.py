from pathlib import Path

import pytest

from deploy.local.infra import packages, rabbitmq
from deploy.local.infra.errors import InfraError

ERL = """#!/bin/sh
if [ -z "$ERL_ROOTDIR" ]
then
    ROOTDIR=/usr/lib/erlang
fi
BINDIR="$ROOTDIR/erts-13.1.5/bin"
"""

PLAN = """NOTE: This is only a simulation!
Inst logrotate (3.21.0-1 Debian:12.15/oldstable [amd64])
Inst erlang-base [1:25.0] (1:25.2.3+dfsg-1+deb12u4 Debian:12.15/oldstable [amd64])
Inst libwrap0 (7.6.q-32 Debian:12.15/oldstable [amd64])
Inst rabbitmq-server (3.10.8-1.1+deb12u1 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [all])
Conf logrotate (3.21.0-1 Debian:12.15/oldstable [amd64])
"""

STATUS = """Package: erlang-base
Status: install ok installed
Version: 1:25.2.3

Package: libc6
Status: install ok installed
Version: 2.36
"""


def erlang_in(root: Path) -> list[Path]:
    scripts = [root / "usr/lib/erlang" / name for name in ("bin/erl", "erts-13.1.5/bin/erl")]
    for script in scripts:
        script.parent.mkdir(parents=True)
        script.write_text(ERL)
        script.chmod(0o755)
    return scripts


def test_erlang_is_told_where_it_lies_also_after_a_move(tmp_path: Path) -> None:
    """Erlang's start scripts name the folder they are in, and a moved checkout is set right the next time."""
    scripts = erlang_in(tmp_path / "first")
    packages.relocate(tmp_path / "first")
    for script in scripts:
        assert f'    ROOTDIR="{tmp_path}/first/usr/lib/erlang"\n' in script.read_text()
        assert 'BINDIR="$ROOTDIR/erts-13.1.5/bin"' in script.read_text()
        assert script.stat().st_mode & 0o111
    (tmp_path / "first").rename(tmp_path / "second")
    packages.relocate(tmp_path / "second")
    assert "first" not in (tmp_path / "second/usr/lib/erlang/bin/erl").read_text()


def test_a_home_that_borrows_the_packages_leaves_their_place_in_them(tmp_path: Path) -> None:
    """Who comes through a link is told where they are: a home of its own goes, and they stay for the others."""
    script, _ = erlang_in(tmp_path / "own")
    packages.relocate(tmp_path / "own")
    before = script.read_text()
    (tmp_path / "borrowed").symlink_to(tmp_path / "own")
    packages.relocate(tmp_path / "borrowed")
    assert script.read_text() == before


def test_relocating_twice_writes_nothing(tmp_path: Path) -> None:
    """A script that is right already is left alone, since other processes may be starting from it."""
    script, _ = erlang_in(tmp_path)
    packages.relocate(tmp_path)
    before = script.stat().st_ino
    packages.relocate(tmp_path)
    assert script.stat().st_ino == before


def test_only_what_the_broker_needs_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of apt's plan the broker, Erlang and shared libraries are taken, in the planned versions; log rotation is not."""
    ran: list[list[str]] = []

    def run(argv: list[str], _cwd: Path, **_options: bool) -> str:
        ran.append(argv)
        return PLAN if "--simulate" in argv else ""

    monkeypatch.setattr(packages, "_run", run)
    packages._fetch(packages.RABBITMQ, tmp_path, ["-o", "x=y"])
    assert ran[1] == [
        *("apt-get", "-o", "x=y", "download"),
        "erlang-base=1:25.2.3+dfsg-1+deb12u4",
        "libwrap0=7.6.q-32",
        "rabbitmq-server=3.10.8-1.1+deb12u1",
    ]


def test_an_installed_erlang_is_hidden_from_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is made as if no Erlang were installed, so that the unpacked tree holds all of it; the rest stays."""
    status = tmp_path / "dpkg-status"
    status.write_text(STATUS)
    monkeypatch.setattr(packages, "STATUS", status)
    options = packages._options(packages.RABBITMQ, tmp_path, private_lists=True)
    seen = (tmp_path / "status").read_text()
    assert "libc6" in seen
    assert "erlang" not in seen
    assert f"Dir::State::status={tmp_path / 'status'}" in options
    assert f"Dir::State::lists={tmp_path / 'state/lists'}" in options


def test_without_apt_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is no Debian gets an error in three lines, and no half-made folder."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfraError, match="not a Debian or Ubuntu") as error:
        packages.unpacked(tmp_path / "packages")
    assert len(str(error.value).splitlines()) == 3
    assert not (tmp_path / "packages/rabbitmq").exists()


def test_a_refusing_apt_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the lists of the machine and private ones both fail, apt's own words are in the error."""
    for tool in ("apt-get", "dpkg"):
        (tmp_path / tool).write_text("#!/bin/sh\necho 'E: Unable to locate package rabbitmq-server' >&2\nexit 100\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(InfraError, match="E: Unable to locate package rabbitmq-server"):
        packages.unpacked(tmp_path / "packages")
    assert sorted(path.name for path in (tmp_path / "packages").iterdir()) == ["lock"]


def test_an_incomplete_tree_is_refused(tmp_path: Path) -> None:
    """A folder without the server or Erlang is named, with the way out."""
    with pytest.raises(InfraError, match=r"Delete .*, so that it is downloaded again"):
        rabbitmq.in_tree(tmp_path)
