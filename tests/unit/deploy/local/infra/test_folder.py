import socket
import stat
from pathlib import Path

import pytest

from deploy.local.infra.errors import InfraError
from deploy.local.infra.folder import LOOPBACK, Folder, free_port, port_is_free
from tests import ports


def test_a_password_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    """The password is random, stays the same, and lies in a 0600 file in a 0700 folder."""
    folder = Folder(tmp_path / "server")
    password = folder.password()
    assert len(password) >= 32
    assert Folder(tmp_path / "server").password() == password
    assert Folder(tmp_path / "other").password() != password
    assert stat.S_IMODE((folder.path / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_a_port_is_kept_while_it_is_free(tmp_path: Path) -> None:
    """A server gets its port again after a restart; when somebody else listens there, another that is then kept."""
    folder = Folder(tmp_path)
    port = folder.port()
    assert folder.port() == port
    with socket.socket() as other:
        other.bind((LOOPBACK, port))
        other.listen()
        moved = folder.port()
        assert moved != port
    assert folder.port() == moved


def test_a_free_port_is_never_one_that_a_client_could_take() -> None:
    """Ports lie below the kernel's ephemeral range, so that no outgoing connection takes one during a restart."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {free_port() for _ in range(20)}
    assert max(ports) < lowest
    assert len(ports) > 10


def test_a_chosen_port_is_none_that_a_test_gives_away() -> None:
    """What the launcher chooses while it starts is never what a test has told a service to listen at."""
    assert max(free_port() for _ in range(200)) < min(ports.free_port() for _ in range(ports.PER_PROCESS))


def test_a_port_in_time_wait_counts_as_free() -> None:
    """The connections a dead server leaves behind do not cost it its port."""
    # Sets SO_REUSEADDR, as PostgreSQL and Erlang do.
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection((LOOPBACK, port))
        accepted, _ = server.accept()
        assert not port_is_free(port)
        # Who closes first is left in TIME_WAIT.
        accepted.close()
        client.close()
    assert port_is_free(port)


def test_a_folder_serves_one_at_a_time(tmp_path: Path) -> None:
    """A second taker is refused with what to do; after unlock it may."""
    first, second = Folder(tmp_path / "server"), Folder(tmp_path / "server")
    assert not first.locked
    first.lock("PostgreSQL")
    assert second.locked
    with pytest.raises(InfraError, match=r"PostgreSQL in .* is already running"):
        second.lock("PostgreSQL")
    first.unlock()
    second.lock("PostgreSQL")
    second.unlock()
    assert not first.locked


def test_a_damaged_port_file_is_replaced(tmp_path: Path) -> None:
    """A port file that holds nonsense is as good as none."""
    folder = Folder(tmp_path)
    (tmp_path / "port").write_text("nonsense")
    assert folder.remembered_port() is None
    assert folder.port() == folder.remembered_port()
