import os
import signal
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from deploy.local.infra import identity
from deploy.local.infra.errors import InfraError
from deploy.local.infra.guarded import wait_until
from deploy.local.infra.postgres import Postgres


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("cluster") / "postgres")
    yield server
    server.remove()


@pytest.fixture
def postgres(cluster: Postgres) -> Postgres:
    """The module's one, which is running."""
    cluster.start()
    return cluster


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, connect_timeout=5) as connection:
        cursor = connection.execute(query.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def test_a_private_cluster_is_durable_utc_and_listens_on_loopback_only(postgres: Postgres) -> None:
    """A private PostgreSQL has fsync on, UTC, UTF-8, and one TCP listener on 127.0.0.1 without a socket file."""
    assert ask(postgres.url, "show fsync") == "on"
    assert ask(postgres.url, "show timezone") == "UTC"
    assert ask(postgres.url, "show server_encoding") == "UTF8"
    assert ask(postgres.url, "show unix_socket_directories") == ""
    assert postgres.pid is not None
    listening = [c.laddr for c in psutil.Process(postgres.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", postgres.port)]


def test_the_password_is_needed_and_kept_from_others(postgres: Postgres) -> None:
    """Nobody signs in without the generated password, which only the owner can read."""
    wrong = postgres.url.replace(postgres.folder.password(), "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        ask(wrong, "select 1")
    mode = (postgres.folder.path / "password").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(postgres.folder.path.stat().st_mode) == 0o700
    hba = (postgres.folder.path / "data" / "pg_hba.conf").read_text()
    assert "trust" not in [line.split()[-1] for line in hba.splitlines() if line and not line.startswith("#")]


def test_a_restart_keeps_the_data_and_the_url(postgres: Postgres) -> None:
    """After stop and start the same URL leads to the same data."""
    url = postgres.url
    ask(url, "create table kept as select 7 as value")
    postgres.stop()
    assert not postgres.running
    assert Postgres(postgres.folder.path).url == url
    postgres.start()
    assert postgres.url == url
    assert ask(url, "select value from kept") == 7


def test_a_crash_loses_no_committed_row(postgres: Postgres) -> None:
    """After SIGKILL of the whole server what was committed is there, and what was not is not."""
    ask(postgres.url, "create table taps (id int)")
    ask(postgres.url, "insert into taps values (1)")
    with psycopg.connect(postgres.url) as open_transaction:
        open_transaction.execute("insert into taps values (2)")
        postgres.kill()
        assert not postgres.running
        with pytest.raises(psycopg.OperationalError):
            open_transaction.execute("select 1")
    postgres.start()
    assert ask(postgres.url, "select string_agg(id::text, ',') from taps") == "1"


def test_a_frozen_server_answers_nothing_until_it_thaws(postgres: Postgres) -> None:
    """While frozen, neither an open connection nor a new one gets an answer; after thaw both go on."""
    with psycopg.connect(postgres.url) as connection, ThreadPoolExecutor(max_workers=1) as threads:
        postgres.freeze()
        with pytest.raises(psycopg.OperationalError, match="timeout"):
            psycopg.connect(postgres.url, connect_timeout=2)
        waiting = threads.submit(connection.execute, "select 1")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.5)
        postgres.thaw()
        assert waiting.result(timeout=5).fetchone() == (1,)
    assert ask(postgres.url, "select 1") == 1


def test_a_frozen_server_can_be_stopped(postgres: Postgres) -> None:
    """Stop ends a frozen server too, and leaves no process."""
    assert postgres.pid is not None
    tree = [psutil.Process(postgres.pid), *psutil.Process(postgres.pid).children(recursive=True)]
    postgres.freeze()
    postgres.stop()
    assert not [process for process in tree if process.is_running()]


def test_a_second_start_in_the_same_folder_is_refused(postgres: Postgres) -> None:
    """Two servers never run in one folder: the second is told what to do."""
    with pytest.raises(InfraError, match="already running"):
        Postgres(postgres.folder.path).start()
    assert postgres.running


def test_a_server_that_died_is_started_again(postgres: Postgres) -> None:
    """A server that was killed from outside is not running, and start brings it back."""
    assert postgres.pid is not None
    os.kill(postgres.pid, signal.SIGKILL)
    wait_until(lambda: not postgres.running, 5, "the guard to notice")
    postgres.start()
    assert ask(postgres.url, "select 1") == 1


def test_a_failed_start_says_why(tmp_path: Path) -> None:
    """A server that refuses its settings is reported with its own words, and leaves no process and no lock."""
    server = Postgres(tmp_path / "postgres", settings={"shared_buffers": "nonsense"})
    with pytest.raises(InfraError, match="invalid value for parameter"):
        server.start()
    assert not server.running
    assert not server.folder.locked


def test_data_of_another_version_is_refused(tmp_path: Path) -> None:
    """A folder with another PostgreSQL's data is left untouched, with a word on what to do."""
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(InfraError, match="is of PostgreSQL 16"):
        Postgres(tmp_path / "postgres").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_root_runs_it_without_user_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where user namespaces are forbidden, as in many containers, root still gets a server, as an ordinary user."""
    monkeypatch.setattr(identity, "choose", lambda: identity.drop_root(65534, 65534))
    server = Postgres(tmp_path / "postgres")
    try:
        server.start()
        assert server.pid is not None
        assert set(psutil.Process(server.pid).uids()) == {65534}
        ask(server.url, "create table kept as select 7 as value")
    finally:
        server.stop()
    monkeypatch.undo()
    # And the data goes on in the other way, should namespaces be allowed later.
    again = Postgres(tmp_path / "postgres")
    try:
        again.start()
        assert ask(again.url, "select value from kept") == 7
    finally:
        again.remove()
