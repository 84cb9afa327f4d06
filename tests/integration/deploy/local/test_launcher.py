"""What a first-time user meets when something is in the launcher's way."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest

from deploy.local import processes
from deploy.local.environment import DATABASE_ADMIN, owners
from deploy.local.home import SERVICES, Home
from deploy.local.infra import rabbitmq
from deploy.local.infra.errors import InfraError
from deploy.local.infra.external import external_rabbitmq
from deploy.local.infra.guarded import wait_until
from deploy.local.infra.postgres import START_TIMEOUT_S, Postgres
from deploy.local.processes import Program, pause_s
from deploy.local.schemas import bring_current
from deploy.local.servers import Kept
from deploy.local.stack import Stack
from deploy.local.up import run_migrate
from tests.infra import PACKAGES


class AnotherProgram(BaseHTTPRequestHandler):
    """Something that has our port: it answers, in HTML, and with an error."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/readyz"
        finally:
            server.shutdown()
            thread.join()


class Running(Program):
    @property
    def alive(self) -> bool:
        return True


def answering(body: bytes, status: int = 200) -> type[BaseHTTPRequestHandler]:
    class Handler(AnotherProgram):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


@pytest.mark.parametrize(
    "handler", [AnotherProgram, answering(b"<html>"), answering(b"[]"), answering(b'{"status": "up"}', 503)]
)
def test_another_programs_answer_on_our_port_is_no_readiness(
    handler: type[BaseHTTPRequestHandler], tmp_path: Path
) -> None:
    """Until the service has noticed that its port is taken, the other program's pages must not end the launcher."""
    with served(handler) as url:
        found = Running("sync", "services.sync", {}, tmp_path / "log", ready_url=url).readiness()
    assert found == {"process": "does not answer yet (another program has its port)"}


@pytest.mark.parametrize("status", [200, 503])
def test_a_services_own_answer_is_its_readiness(status: int, tmp_path: Path) -> None:
    """Ready or not, /readyz says what is missing. What is only worth a look, nobody waits for."""
    body = (
        b'{"status": "any", "checks": {"database": "ok", "broker": "the broker is not connected"}, "notes": {"a": "b"}}'
    )
    with served(answering(body, status)) as url:
        found = Running("sync", "services.sync", {}, tmp_path / "log", ready_url=url).readiness()
    assert found == {"database": "ok", "broker": "the broker is not connected"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in [name for name in os.environ if name.startswith("EXPRESSYNC_")]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EXPRESSYNC_HOME", str(tmp_path / "home"))
    return Home.of("live")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What falls is started again after shorter pauses, which grow all the same."""
    monkeypatch.setattr(processes, "RESTART_AFTER_S", 0.1)


@pytest.fixture
def postgres(home: Home) -> Iterator[Postgres]:
    """The private PostgreSQL of a stack that is up."""
    server = Postgres(home.folder / "postgres", fsync=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("shared") / "postgres", fsync=False)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def admin_url(shared: Postgres) -> Iterator[str]:
    """An administrator's address of an empty database, on a server that has no other one and no other role."""
    name = f"launcher_{uuid4().hex[:12]}"
    _ask(shared.url, f"CREATE DATABASE {name}")
    yield urlunsplit(urlsplit(shared.url)._replace(path=f"/{name}"))
    others = "FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
    for statement in (
        f"SELECT string_agg(format('DROP DATABASE %I WITH (FORCE)', datname), ';') {others}",
        "SELECT string_agg(format('DROP ROLE %I', rolname), ';') FROM pg_roles WHERE rolname !~ '^(pg_|postgres$)'",
    ):
        for drop in str(_ask(shared.url, statement) or "").split(";"):
            _ask(shared.url, drop)


def test_the_database_of_a_stack_that_is_up_is_migrated_by_a_restart(home: Home, postgres: Postgres) -> None:
    """`expressync migrate` beside a running stack says that it is in use, and how to go on."""
    assert postgres.running
    with pytest.raises(InfraError, match="is in use"):
        run_migrate(home.base / ".env")


def test_a_private_database_that_cannot_start_is_told_with_its_own_reason(home: Home) -> None:
    """A cluster of another PostgreSQL is not mistaken for one that is in use."""
    data = home.folder / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(InfraError, match="is of PostgreSQL 9"):
        run_migrate(home.base / ".env")


def _said(kept: Kept | Program) -> str:
    while not (said := kept.keep_up()):
        time.sleep(0.1)
    return said


@pytest.mark.usefixtures("soon")
def test_a_private_server_that_falls_is_started_again_where_it_was(postgres: Postgres) -> None:
    """The services know it by its address: while another program has its port it is said, and tried again."""
    kept, url, pid = Kept("PostgreSQL", postgres), postgres.url, postgres.pid
    assert pid is not None
    assert kept.keep_up() is None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not postgres.running, 5, "the guard to notice")
    with socket.create_server(("127.0.0.1", postgres.port or 0)):
        assert "is taken" in _said(kept)
        assert kept.keep_up() is None
    assert _said(kept) == "PostgreSQL ended and was started again."
    assert postgres.url == url
    assert _ask(url, "SELECT 1") == 1


def test_a_server_that_does_not_get_ready_delays_neither_a_restart_nor_the_stop(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What else fell is looked after meanwhile; Ctrl-C ends the start, and leaves nothing of it."""
    monkeypatch.setattr(postgres, "answers", lambda: False)
    kept = Kept("PostgreSQL", postgres)
    postgres.kill()
    began = time.monotonic()
    assert kept.keep_up() is None
    wait_until(lambda: postgres.running, 20, "PostgreSQL to be started")
    assert kept.keep_up() is None
    kept.stop()
    assert time.monotonic() - began < START_TIMEOUT_S / 2
    assert not postgres.running
    assert not postgres.folder.locked


@pytest.mark.parametrize("slow", [("postgres", "broker"), ("broker",)])
def test_ctrl_c_is_heard_while_the_servers_start_for_the_first_time(
    home: Home, monkeypatch: pytest.MonkeyPatch, slow: tuple[str, ...]
) -> None:
    """The start ends with them, without an error, and leaves nothing of it; none of them may ever answer."""
    home.base.mkdir()
    home.packages.symlink_to(PACKAGES)
    stack = Stack(home, {}, lambda _: None, any_port=True)
    monkeypatch.setattr(rabbitmq, "answers", lambda _: False)
    if "postgres" in slow:
        monkeypatch.setattr(stack.postgres, "answers", lambda: False)
    told = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(stack.start, told=told)
        try:
            wait_until(lambda: stack.postgres.running and stack.broker.running, 30, "the servers to be started")
            if "postgres" not in slow:
                wait_until(lambda: len(stack.programs) == len(SERVICES), 30, "the services to be started")
            told.set()
            # Not when the servers are given up. A RabbitMQ that is starting takes a while to end on a busy machine.
            starting.result(START_TIMEOUT_S * 2 / 3)
            assert not stack.broker.running
            assert stack.postgres.running is ("postgres" not in slow)
        finally:
            stack.stop()
    assert not stack.postgres.running
    assert stack.programs == []


@pytest.mark.usefixtures("soon")
def test_a_program_that_cannot_be_started_again_is_tried_again(tmp_path: Path) -> None:
    """For want of memory or of room on the disk, say: the rest of the stack is not ended for it."""
    logs, not_json = tmp_path / "logs", tmp_path / "not.json"
    not_json.write_text("{")
    program = Program("sync", "json.tool", {}, logs / "sync.log", arguments=(str(not_json),))
    program.start()
    wait_until(lambda: not program.alive, 10, "the program to end")
    (logs / "sync.log").unlink()
    logs.rmdir()
    logs.write_text("no folder")
    assert "could not be started; that is tried again." in _said(program)
    logs.unlink()
    assert "was started again" in _said(program)
    program.stop()


def test_a_server_that_was_given_is_its_owners_to_start() -> None:
    """It is not even asked whether it runs."""
    assert Kept("RabbitMQ", external_rabbitmq("amqp://127.0.0.1:1/")).keep_up() is None


@pytest.mark.parametrize(("falls", "seconds"), [(0, 1), (3, 8), (5, 30), (5000, 30)])
def test_what_falls_again_and_again_is_given_longer_pauses(falls: int, seconds: float) -> None:
    """Up to half a minute, however often it falls."""
    assert pause_s(falls) == seconds


def _newer(url: str) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE sync.alembic_version SET version_num = '9999'")
    return url


def _without_rights(url: str) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"plain:plain@{parts.hostname}:{parts.port}"))


@pytest.mark.parametrize(
    ("spoil", "what", "why"),
    [(_newer, "newer than this program", "9999"), (_without_rights, "could not be made current", "permission denied")],
)
def test_a_database_that_refuses_the_schemas_is_told_in_three_lines(
    home: Home, admin_url: str, spoil: Callable[[str], str], what: str, why: str
) -> None:
    """A newer database and a user without rights end in what, why and what to do, and not in a traceback."""
    bring_current(admin_url, owners(home, {}))
    with pytest.raises(InfraError, match=what) as raised:
        bring_current(spoil(admin_url), owners(home, {}))
    assert why in raised.value.why
    assert raised.value.remedy


def _as(url: str, role: str) -> str:
    """`role` is the part before the @, as it stands in an address."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}@{parts.hostname}:{parts.port}"))


def _ask(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def test_an_address_that_was_given_says_role_and_password(
    home: Home, admin_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Services that others start sign in with the addresses that were given; a role's own password is left to it."""
    biller, auditor = _as(admin_url, "biller:s%40cret%2F1"), _as(admin_url, "auditor")
    _ask(admin_url, "CREATE ROLE auditor LOGIN PASSWORD 'of its own'")
    monkeypatch.setenv(DATABASE_ADMIN, admin_url)
    monkeypatch.setenv("EXPRESSYNC_SYNC_DATABASE_URL", biller)
    monkeypatch.setenv("EXPRESSYNC_AUDIT_DATABASE_URL", auditor)
    for _ in range(2):
        assert run_migrate(home.base / ".env") == 0
        assert _ask(biller, "SELECT count(*) FROM sync.outbox") == 0
        assert _ask(_as(admin_url, "auditor:of%20its%20own"), "SELECT count(*) FROM audit.outbox") == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            _ask(biller, "SELECT count(*) FROM audit.outbox")
    known = "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname LIKE 'expressync%'"
    assert _ask(admin_url, known) == "expressync_admin_api expressync_preauth"


def test_an_administrator_who_is_no_superuser_migrates_again(home: Home, admin_url: str) -> None:
    """A hosted PostgreSQL gives no superuser: whoever may create roles may repeat it, and a right too many is taken."""
    _ask(admin_url, "CREATE ROLE hosted LOGIN CREATEROLE PASSWORD 'pw'")
    _ask(admin_url, "CREATE DATABASE hosted OWNER hosted")
    hosted = urlunsplit(urlsplit(_as(admin_url, "hosted:pw"))._replace(path="/hosted"))
    for _ in range(2):
        bring_current(hosted, owners(home, {}))
    _ask(admin_url, "ALTER ROLE expressync_sync SUPERUSER CREATEDB")
    bring_current(admin_url, owners(home, {}))
    rights = "SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = 'expressync_sync'"
    assert _ask(admin_url, rights) is False


@pytest.mark.parametrize(
    ("sync", "audit", "why"),
    [
        ("postgres", "auditor", "postgres cannot be the role of sync: it is the administrator's"),
        ("both", "both", "both cannot be the role of audit: it is that of sync"),
    ],
)
def test_a_role_that_is_somebody_elses_too_is_left_alone(
    home: Home, admin_url: str, sync: str, audit: str, why: str
) -> None:
    """A service's role loses every other right: neither the administrator nor two services are cut down to one."""
    given = {
        "EXPRESSYNC_SYNC_DATABASE_URL": _as(admin_url, f"{sync}:pw"),
        "EXPRESSYNC_AUDIT_DATABASE_URL": _as(admin_url, f"{audit}:pw"),
    }
    with pytest.raises(InfraError, match="not touched") as raised:
        bring_current(admin_url, owners(home, given))
    assert why in raised.value.why
    assert _ask(admin_url, "SELECT rolsuper FROM pg_roles WHERE rolname = 'postgres'") is True
    assert _ask(admin_url, "SELECT count(*) FROM pg_namespace WHERE nspname = ANY('{sync,audit}')") == 0


def test_a_role_that_comes_after_the_tables_is_refused_until_the_old_one_has_its_name(
    home: Home, admin_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could sign in and do nothing; the old one, renamed, keeps its rights down to the columns."""
    biller = _as(admin_url, "biller:pw")
    monkeypatch.setenv(DATABASE_ADMIN, admin_url)
    assert run_migrate(home.base / ".env") == 0
    _ask(admin_url, "CREATE ROLE figures")
    _ask(admin_url, "GRANT SELECT ON ALL TABLES IN SCHEMA sync TO figures")
    monkeypatch.setenv("EXPRESSYNC_SYNC_DATABASE_URL", biller)
    with pytest.raises(InfraError, match="not touched") as raised:
        run_migrate(home.base / ".env")
    assert "were made for expressync_sync, and biller has no right" in raised.value.why
    assert _ask(admin_url, "SELECT count(*) FROM pg_roles WHERE rolname = 'biller'") == 0

    rename = 'ALTER ROLE "expressync_sync" RENAME TO "biller"'
    assert rename in raised.value.remedy
    _ask(admin_url, rename)
    assert run_migrate(home.base / ".env") == 0
    assert _ask(biller, "SELECT count(*) FROM sync.outbox") == 0
    _ask(biller, "UPDATE sync.ledger_entry SET hold_reason = NULL")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        _ask(biller, "UPDATE sync.ledger_entry SET usage_event_id = ''")


def test_a_database_that_others_work_in_is_refused_untouched(
    home: Home, admin_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would lose the rights that everybody has; one with nothing but an extension's tables may become ours."""
    monkeypatch.setenv(DATABASE_ADMIN, admin_url)
    _ask(admin_url, "CREATE TABLE orders (id int)")
    _ask(admin_url, "CREATE SCHEMA sync CREATE TABLE bowls (id int)")
    with pytest.raises(InfraError, match="not touched") as raised:
        run_migrate(home.base / ".env")
    assert "not ExpresSync's: public.orders, sync.bowls." in raised.value.why
    assert DATABASE_ADMIN in raised.value.remedy
    assert _ask(admin_url, "SELECT has_database_privilege('public', current_database(), 'CONNECT')") is True
    assert _ask(admin_url, "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'expressync%'") == 0

    _ask(admin_url, "DROP SCHEMA sync CASCADE")
    # As a script of an extension does.
    _ask(admin_url, "ALTER EXTENSION plpgsql ADD TABLE orders")
    assert run_migrate(home.base / ".env") == 0
    assert _ask(admin_url, "SELECT has_database_privilege('public', current_database(), 'CONNECT')") is False
    _ask(admin_url, "CREATE TABLE public.figures (id int)")
    assert run_migrate(home.base / ".env") == 0


def test_two_services_whose_roles_are_swapped_are_not_given_each_others_tables(home: Home, admin_url: str) -> None:
    """Each would read what the other one keeps, and not its own."""
    bring_current(admin_url, owners(home, {}))
    swapped = {
        "EXPRESSYNC_SYNC_DATABASE_URL": _as(admin_url, "expressync_audit:pw"),
        "EXPRESSYNC_AUDIT_DATABASE_URL": _as(admin_url, "expressync_sync:pw"),
    }
    with pytest.raises(InfraError, match="not touched"):
        bring_current(admin_url, owners(home, swapped))
    assert _ask(admin_url, "SELECT has_schema_privilege('expressync_audit', 'sync', 'USAGE')") is False


@pytest.mark.parametrize(
    ("url", "what", "why"),
    [
        ("postgresql://h:5432/x", "EXPRESSYNC_SYNC_DATABASE_URL names no role", "may stand in it"),
        ("postgresql://u:hunter2@h:port/x", "EXPRESSYNC_SYNC_DATABASE_URL names no role", "may stand in it"),
        ("postgresql://u:hunter2@h:5432/x", "Nothing was migrated", "EXPRESSYNC_SYNC_DATABASE_URL is set"),
    ],
)
def test_an_address_that_cannot_be_followed_is_told_without_showing_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, url: str, what: str, why: str
) -> None:
    """One without a role, one that is malformed, and one of a database that nobody may create schemas in."""
    monkeypatch.setenv("EXPRESSYNC_SYNC_DATABASE_URL", url)
    if "names no role" in what:
        monkeypatch.setenv(DATABASE_ADMIN, "postgresql://nobody@127.0.0.1:1/x")
    with pytest.raises(InfraError, match=what) as raised:
        run_migrate(home.base / ".env")
    assert why in raised.value.why
    assert "hunter2" not in str(raised.value)
