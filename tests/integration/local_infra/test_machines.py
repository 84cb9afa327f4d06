"""Machines unlike this one: no root, no package lists, no user name."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.infra import packages, rabbitmq
from deploy.local.infra.rabbitmq import RabbitNode, in_tree
from tests.infra import PACKAGES
from tests.users import NOBODY, becoming, environment_of_another

BOTH_SERVERS = """
import os, sys
from pathlib import Path
from deploy.local.infra.broker import provide_broker
from deploy.local.infra.external import postgres_answers, rabbitmq_answers
from deploy.local.infra.postgres import Postgres
folder, packages = Path(sys.argv[1]), Path(sys.argv[2])
assert os.getuid() == os.geteuid() == int(sys.argv[3])
for server, answers in (
    (Postgres(folder / "postgres"), postgres_answers),
    (provide_broker(folder / "rabbitmq", packages, ways=("unpacked",)), rabbitmq_answers),
):
    try:
        server.start()
        print(server.source, os.stat(f"/proc/{server.pid}").st_uid, answers(server.url), flush=True)
        server.kill()
        server.start()
        print(server.source, answers(server.url), flush=True)
    finally:
        server.stop()
"""


def run_as(uid: int, *argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*becoming(uid), *argv],
        cwd=cwd,
        env=environment_of_another(),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


@pytest.fixture
def home_of_another() -> Iterator[Path]:
    """A folder that others can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="expressync-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.full
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else; without root every test is this one")
@pytest.mark.parametrize("uid", [NOBODY, 54321])
def test_an_ordinary_user_gets_everything_without_root(home_of_another: Path, uid: int) -> None:
    """A user without rights, and even without a name, downloads, starts, crashes and restarts both servers."""
    folder = home_of_another
    os.chown(folder, uid, uid)
    argv = (sys.executable, "-c", BOTH_SERVERS, str(folder), str(folder / "packages"), str(uid))
    done = run_as(uid, *argv, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *(f"wheel {uid} True", "wheel True"),
        *(f"unpacked {uid} True", "unpacked True"),
    ]


@pytest.mark.full
def test_a_machine_without_package_lists_downloads_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where apt was never updated, lists are fetched into a private folder, and the broker starts from the result."""
    options = packages._options
    empty = tmp_path / "no-lists"
    (empty / "partial").mkdir(parents=True)

    def without_lists(bundle: packages.Bundle, work: Path, *, private_lists: bool) -> list[str]:
        chosen = options(bundle, work, private_lists=private_lists)
        return chosen if private_lists else [*chosen, "-o", f"Dir::State::lists={empty}"]

    monkeypatch.setattr(packages, "_options", without_lists)
    root = packages.unpacked(tmp_path / "packages")
    assert sorted(path.name for path in (tmp_path / "packages").iterdir()) == ["lock", "rabbitmq"]
    node = RabbitNode(tmp_path / "node", in_tree(root))
    try:
        node.start()
        assert node.source == "unpacked"
    finally:
        node.remove()


def test_an_installed_broker_is_run_as_a_private_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rabbitmq-server that the machine has is found past its wrapper and started with private data.

    Where none is installed, the unpacked tree stands in for the machine's /usr.
    """
    if rabbitmq.installed() is None:
        root = packages.unpacked(PACKAGES)
        tree = in_tree(root)
        monkeypatch.setattr(rabbitmq, "SYSTEM", root / "usr/lib/rabbitmq/lib")
        monkeypatch.setenv("PATH", tree.search_path)
        monkeypatch.setenv("LD_LIBRARY_PATH", os.pathsep.join(map(str, tree.libraries)))
    found = rabbitmq.installed()
    assert found is not None
    assert "script-wrapper" not in (found.sbin / "rabbitmq-server").resolve().name
    node = RabbitNode(tmp_path / "node", found)
    try:
        node.start()
        assert node.source == "installed"
        assert node.running
    finally:
        node.remove()
    assert not (tmp_path / "node").exists()
    assert shutil.which("erl") is not None
