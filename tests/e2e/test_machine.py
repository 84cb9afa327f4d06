import json
import os
import signal
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import aio_pika
import httpx
import psutil
import pytest

from deploy.demo.lago import LagoSettings, run_lago
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.simulator import run_steve
from deploy.local.doctor.result import WHAT
from deploy.local.home import Home
from deploy.local.infra.broker import provide_broker
from deploy.local.infra.postgres import Postgres
from tests.e2e.launched import Launched, home, processes_of, run, run_json
from tests.ports import free_port
from tests.users import NOBODY
from tests.waiting import until

PORTS = (
    "PREAUTH_PORT",
    "PREAUTH_OPS_PORT",
    "SYNC_PORT",
    "SYNC_OPS_PORT",
    "ADMIN_API_PORT",
    "ADMIN_API_OPS_PORT",
    "AUDIT_OPS_PORT",
)
CHOSEN = "a password of their own"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = home(tmp_path / "home")
    yield folder
    run(folder, "down", "--yes")


@pytest.fixture
def folder_of_another() -> Iterator[Path]:
    """A home of a user who is not root, where others reach it, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="expressync-") as base:
        Path(base).chmod(0o755)
        folder = home(Path(base, "home"))
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        yield folder
        run(folder, "down", "--yes")


async def _nothing_left(folder: Path) -> None:
    async def gone() -> bool:
        return not processes_of(folder)

    try:
        await until(gone, within_s=30)
    except AssertionError as error:
        raise AssertionError("\n".join(processes_of(folder))) from error


async def test_an_ordinary_users_demo_ends_with_ctrl_c_and_leaves_no_process(folder_of_another: Path) -> None:
    """It needs no root; Ctrl-C takes everything down in order; parked messages can be replayed while it runs."""
    folder = folder_of_another
    demo = Launched(folder, "demo", uid=NOBODY if os.geteuid() == 0 else None)
    try:
        console = demo.wait_for("Console").split()[-1]
        demo.wait_for("One-time password")
        # The address is in it: the login that is kept may be of another installation.
        assert demo.wait_for("expressync login").endswith(f"expressync login --url {console.rstrip('/')}")
        assert (folder / "demo/postgres/data").stat().st_uid == folder.stat().st_uid != 0
        demo.wait_for("scan.intercepted")
        await _park_something(folder)
        demo.wait_for("The story is over")
        demo.signal(signal.SIGINT)
        assert demo.wait() == 0
    finally:
        demo.close()
    await _nothing_left(folder)


async def test_a_demo_that_is_stopped_while_it_starts_has_checked_nothing(folder: Path) -> None:
    """`--once` stands for checks that passed: stopped before there were any it ends with 1, and programs read why."""
    demo = Launched(folder, "demo", "--once", "--json")
    try:
        demo.wait_for("PostgreSQL is up")
        demo.signal(signal.SIGTERM)
        assert json.loads(demo.wait_for('"checks"')) == {"passed": False, "checks": []}
        assert demo.wait() == 1
    finally:
        demo.close()
    await _nothing_left(folder)


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_the_demo_is_played_again_on_what_it_left(folder: Path) -> None:
    """The data survive a restart: the second story finds the cards linked, meters that went on, and nothing twice."""
    for _ in range(2):
        played = run(folder, "demo", "--once", timeout_s=240)
        assert played.returncode == 0, played.stdout + played.stderr
        assert "✗" not in played.stdout
    await _nothing_left(folder)


async def _park_something(folder: Path) -> None:
    node = Home(folder, "demo")
    url = provide_broker(node.folder / "rabbitmq", node.packages).url
    message_id = str(uuid4())
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange("expressync.events")
        await exchange.publish(aio_pika.Message(b"not an event", message_id=message_id), "nothing.known")

    async def parked() -> list[dict[str, str]]:
        code, found = run_json(folder, "parked", "list")
        return list(found[0]["messages"]) if code == 1 else []

    (one,) = await until(parked)
    assert (one["queue"], one["message_id"], one["body"]) == ("audit.events", message_id, "not an event")
    assert "not a CloudEvent" in one["reason"]
    code, sent = run_json(folder, "parked", "replay", message_id)
    assert code == 0
    assert [one["message_id"] for one in sent] == [message_id]
    # It is no more of an event than before: it comes back, and is not lost.
    assert len(await until(parked)) == 1
    assert run(folder, "parked", "replay", "no-such-message").returncode == 3


async def test_a_demo_is_examined_and_ends_with_its_launcher(folder: Path) -> None:
    """Without a .env the doctor finds the demo, and reads its settings from its services. Whatever ends the launcher,
    and be it SIGKILL, takes everything that it started with it.
    """
    demo = Launched(folder, "demo")
    try:
        demo.wait_for("All four services are ready")
        code, found = run_json(folder, "doctor")
        answers = {one["id"]: one["answer"] for one in found}
        assert (code, answers) == (0, dict.fromkeys(WHAT, "yes")), found
        why = next(one["why"] for one in found if one["id"] == "settings.source")
        assert why == "There is no .env; the demo that runs here is looked at."
        said = json.dumps(found)
        assert [secret for secret in _secrets(folder / "demo") if secret in said] == []

        # A .env beside it means another installation, to which the demo's services do not belong.
        (folder / ".env").write_text("EXPRESSYNC_SYNC_STEVE_ID=main\n")
        code, found = run_json(folder, "doctor")
        assert (code, next(one["answer"] for one in found if one["id"] == "services.sync")) == (1, "no")
        demo.signal(signal.SIGKILL)
        demo.wait()
    finally:
        demo.close()
    await _nothing_left(folder)


def _secrets(home: Path) -> list[str]:
    passwords = [file.read_text() for file in home.glob("*/password")]
    assert len(passwords) == 2
    return [*json.loads((home / "secrets.json").read_text()).values(), *passwords]


async def test_up_serves_a_steve_and_a_lago_from_a_dotenv(folder: Path) -> None:
    """`up` reads .env, brings back what falls, keeps its data over a restart, and `down` stops it from elsewhere."""
    env_file = folder / "settings.env"
    postgres = Postgres(folder / "live" / "postgres")
    # Once, so that its address can be given.
    postgres.start()
    postgres.stop()
    async with run_steve(SteveSettings(auth_delay_ms=0)) as steve, run_lago(LagoSettings()) as lago:
        steve.state.add_tag("04E2E", limit=1)
        ports = {name: free_port() for name in PORTS}
        settings = {
            "SYNC_STEVE_ID": "home",
            "SYNC_STEVE_URL": steve.rest_url,
            "SYNC_STEVE_USER": "steve",
            "SYNC_STEVE_PASSWORD": "steve",
            "SYNC_LAGO_URL": lago.url,
            "SYNC_LAGO_API_KEY": lago.api_key,
            "PREAUTH_HOOK_KEYS": "0123456789abcdef0123456789abcdef",
            "SYNC_DATABASE_URL": f"postgresql://biller:of-its-own@127.0.0.1:{postgres.port}/postgres",
            **ports,
        }
        env_file.write_text("".join(f"EXPRESSYNC_{name}={value}\n" for name, value in settings.items()))
        for start in (1, 2):
            up = Launched(folder, "up", "--env-file", str(env_file))
            try:
                console = up.wait_for("Console: ").removeprefix("Console: ")
                up.wait_for("Up. Ctrl-C stops everything.")
                if start == 1:
                    one_time = up.said("one-time password").rpartition(" ")[2]
                    _kill_servers(folder, up)
                    await _sign_in(console, one_time, new_password=CHOSEN)
                assert any("one-time password" in line for line in up.lines) == (start == 1)
                await _sign_in(console, CHOSEN)
                second = run(folder, "up", "--env-file", str(env_file))
                assert (second.returncode, "already up" in second.stderr) == (3, True)
                code, stopped = run_json(folder, "down", "--keep" if start == 1 else "--yes")
                assert (code, stopped["stopped"], stopped["kept"]) == (0, ["live"], [])
                assert (str(folder / "live") in stopped["deleted"]) == (start == 2)
                assert up.wait() == 0
            finally:
                up.close()
            assert (folder / "live" / "postgres").exists() == (start == 1)
    await _nothing_left(folder)


def _kill_servers(folder: Path, up: Launched) -> None:
    """As the kernel does where memory runs out."""
    names = {"postgres": "PostgreSQL", "beam.smp": "RabbitMQ"}
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] in names and str(folder / "live") in " ".join(process.info["cmdline"] or ()):
            process.kill()
    for name in names.values():
        up.wait_for(f"{name} ended and was started again.")


async def _sign_in(console: str, password: str, **more: str) -> None:
    """Sign in at the console's API, and find it in the audit log: database, broker and services work together."""
    async with httpx.AsyncClient(base_url=f"{console}api/v1", timeout=10) as client:
        before = datetime.now(UTC).isoformat()

        async def token() -> str | None:
            answer = await client.post("/session", json={"name": "admin", "password": password, **more})
            return str(answer.json()["token"]) if answer.status_code == 201 else None

        client.headers["Authorization"] = f"Bearer {await until(token, every_s=0.5)}"

        async def recorded() -> bool:
            params = {"type": "operator.signed_in", "since": before}
            answer = await client.get("/audit/entries", params=params)
            return answer.status_code == 200 and bool(answer.json()["items"])

        assert await until(recorded, within_s=60)


def test_up_names_what_is_missing(folder: Path) -> None:
    """Without settings, nothing keeps running and every missing variable is named."""
    done = run(folder, "up")
    assert done.returncode == 3
    assert "EXPRESSYNC_SYNC_STEVE_ID is not set" in done.stderr
    assert ".env.example" in done.stderr
    assert not processes_of(folder)
