"""What `expressync down` leaves of a stack that is over."""

from pathlib import Path

import pytest

from deploy.local.down import run_down
from deploy.local.home import Home, Kind
from deploy.local.infra.docker import DockerNode
from deploy.local.infra.folder import Folder
from services.admin_api.cli import config
from services.admin_api.cli.config import Access

CONSOLE = "http://127.0.0.1:18090"
KINDS: tuple[Kind, ...] = ("demo", "live")


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Homes with data in them, and a person's own configuration folder."""
    monkeypatch.setenv("EXPRESSYNC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for kind in KINDS:
        Home.of(kind).secret("hook.key")


@pytest.mark.parametrize("kind", ["demo", "live"])
@pytest.mark.parametrize("url", [CONSOLE, "http://localhost:18090"])
def test_the_login_at_a_stack_goes_with_its_data(kind: Kind, url: str) -> None:
    """The token that `login` kept in the person's configuration opens nothing any more, and is forgotten."""
    Home.of(kind).note_console(CONSOLE)
    file = config.save(Access(url, "token"))
    run_down(yes=True, keep=False)
    assert not file.exists()
    assert not Home.of(kind).base.exists()


@pytest.mark.parametrize(
    ("url", "yes", "keep"),
    [("https://expressync.example", True, False), (CONSOLE, True, True), (CONSOLE, False, False)],
    ids=["another", "kept", "not confirmed"],
)
def test_a_login_at_what_stays_stays(url: str, *, yes: bool, keep: bool) -> None:
    """A login elsewhere is none of our business; and a stack whose data stay can be used again."""
    Home.of("live").note_console(CONSOLE)
    file = config.save(Access(url, "token"))
    run_down(yes=yes, keep=keep, as_json=True)
    assert file.exists()


def test_the_volume_of_a_broker_in_a_container_goes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker keeps it elsewhere: it goes with the data of its stack, and the one of a stack that is kept stays."""
    removed: list[Path] = []
    monkeypatch.setattr(DockerNode, "remove", lambda node: removed.append(node.folder.path))
    brokers = {kind: Home.of(kind).folder / "rabbitmq" for kind in KINDS}
    for folder in brokers.values():
        Folder(folder).write("container.env", "")
    run_down(yes=False, keep=False, as_json=True)
    assert removed == [brokers["demo"]]
    run_down(yes=True, keep=False)
    assert removed == [brokers["demo"], brokers["live"]]


@pytest.mark.parametrize("yes", [True, False])
def test_the_packages_stay_as_long_as_a_stack_has_data(*, yes: bool) -> None:
    """A stack that is kept is started again, and then needs them; without one nothing private is left."""
    packages = Home.of("live").packages
    (packages / "rabbitmq").mkdir(parents=True)
    run_down(yes=yes, keep=False, as_json=True)
    assert (packages / "rabbitmq").exists() == (not yes)
    assert Home.of("live").base.exists() == (not yes)


def test_a_new_folder_means_a_new_volume(tmp_path: Path) -> None:
    """RabbitMQ's image sets the password in an empty volume only: one that is left over takes no new one."""
    node = DockerNode(tmp_path / "node")
    before = node.name
    assert node.name == before
    node.folder.remove()
    assert node.name != before


def test_a_file_that_nobody_can_read_is_left_alone() -> None:
    """It may be of another version: whatever it is, it does not stop the end of the stack."""
    Home.of("demo").note_console(CONSOLE)
    config.path().parent.mkdir(parents=True)
    config.path().write_text("?")
    assert run_down(yes=True, keep=False) == 0
    assert config.path().exists()
