"""`expressync demo`, and what acts on a machine where it runs."""

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest

from deploy.local.doctor.result import WHAT
from deploy.local.home import Home
from deploy.local.infra.broker import provide_broker
from shared.bus.topology import parked_queue
from tests.e2e.launched import Launched, home, nothing_left, run, run_json
from tests.users import NOBODY
from tests.waiting import until


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


async def test_an_ordinary_users_demo_ends_with_ctrl_c_and_leaves_no_process(folder_of_another: Path) -> None:
    """It needs no root; Ctrl-C takes everything down in order. Meanwhile it can be examined, and parked messages can be
    replayed.
    """
    folder = folder_of_another
    demo = Launched(folder, "demo", uid=NOBODY if os.geteuid() == 0 else None)
    try:
        console = demo.wait_for("Console").split()[-1]
        demo.wait_for("One-time password")
        # The address is in it: the login that is kept may be of another installation.
        assert demo.wait_for("expressync login").endswith(f"expressync login --url {console.rstrip('/')}")
        assert (folder / "demo/postgres/data").stat().st_uid == folder.stat().st_uid != 0
        _examine(folder)
        demo.wait_for("scan.intercepted")
        await _park_something(folder)
        demo.wait_for("The story is over")
        demo.signal(signal.SIGINT)
        assert demo.wait() == 0
    finally:
        demo.close()
    await nothing_left(folder)


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
    await nothing_left(folder)


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_the_demo_is_played_again_on_what_it_left(folder: Path) -> None:
    """The data survive a restart: the second story finds the cards linked, meters that went on, and nothing twice."""
    for _ in range(2):
        played = run(folder, "demo", "--once", timeout_s=240)
        assert played.returncode == 0, played.stdout + played.stderr
        assert "✗" not in played.stdout
    await nothing_left(folder)


async def _park_something(folder: Path) -> None:
    node = Home(folder, "demo")
    url = provide_broker(node.folder / "rabbitmq", node.packages).url
    message_id = str(uuid4())
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()

        async def parked() -> list[dict[str, str]]:
            """What the command lists, once the broker has something for it."""

            async def is_there() -> bool:
                queue = await channel.declare_queue(parked_queue("audit.events"), passive=True)
                return queue.declaration_result.message_count == 1

            await until(is_there)
            code, found = run_json(folder, "parked", "list")
            assert code == 1
            return list(found[0]["messages"])

        exchange = await channel.get_exchange("expressync.events")
        await exchange.publish(aio_pika.Message(b"not an event", message_id=message_id), "nothing.known")
        (one,) = await parked()
        assert (one["queue"], one["message_id"], one["body"]) == ("audit.events", message_id, "not an event")
        assert "not a CloudEvent" in one["reason"]
        code, sent = run_json(folder, "parked", "replay", message_id)
        assert code == 0
        assert [one["message_id"] for one in sent] == [message_id]
        # It is no more of an event than before: it comes back, and is not lost.
        assert len(await parked()) == 1
    assert run(folder, "parked", "replay", "no-such-message").returncode == 3


def _examine(folder: Path) -> None:
    """Without a .env the doctor finds the demo, and reads its settings from its services."""
    code, found = run_json(folder, "doctor")
    answers = {one["id"]: one["answer"] for one in found}
    assert (code, answers) == (0, dict.fromkeys(WHAT, "yes")), found
    why = next(one["why"] for one in found if one["id"] == "settings.source")
    assert why == "There is no .env; the demo that runs here is looked at."
    said = json.dumps(found)
    assert [secret for secret in _secrets(folder / "demo") if secret in said] == []

    # A .env beside it means another installation, to which the demo's services do not belong.
    env_file = folder / ".env"
    env_file.write_text("EXPRESSYNC_SYNC_STEVE_ID=main\n")
    code, found = run_json(folder, "doctor")
    assert (code, next(one["answer"] for one in found if one["id"] == "services.sync")) == (1, "no")
    env_file.unlink()


def _secrets(home: Path) -> list[str]:
    passwords = [file.read_text() for file in home.glob("*/password")]
    assert len(passwords) == 2
    return [*json.loads((home / "secrets.json").read_text()).values(), *passwords]
