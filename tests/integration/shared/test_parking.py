"""What lies aside, as an operator sees it, and how a single message is sent again."""

import asyncio
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from typer.testing import CliRunner

from deploy.local.cli import app
from deploy.local.infra.errors import InfraError
from deploy.local.parked import run_list, run_replay
from shared.bus import parking
from shared.bus.topology import Topology, events_queue, parked_queue
from tests.integration.shared.conftest import depth

AUDIT, SYNC = events_queue("audit"), events_queue("sync")


@pytest.fixture
async def parked(broker: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Three messages with one and the same id parked from audit's queue, one from sync's; nobody listens."""
    monkeypatch.setenv("EXPRESSYNC_AMQP_URL", broker)
    monkeypatch.chdir(tmp_path)
    async with await aio_pika.connect(broker) as connection:
        channel = await connection.channel()
        await Topology().declare(channel)
        for queue, body in ((AUDIT, b"1"), (AUDIT, b"2"), (AUDIT, b"3"), (SYNC, b"4")):
            message = aio_pika.Message(body, message_id="same")
            parked = parking.parked_message(message, queue=queue, reason=f"why {body.decode()}")
            await channel.default_exchange.publish(parked, parked_queue(queue))
    return broker


async def test_a_limit_counts_for_each_queue_and_says_what_it_left_out(parked: str) -> None:
    """A full queue hides none of another, and how much there is can be seen."""
    shelves = await parking.list_parked(parked, limit=2)
    assert {one.queue: (one.count, [message.body for message in one.messages]) for one in shelves} == {
        SYNC: (1, ["4"]),
        AUDIT: (3, ["1", "2"]),
    }
    assert [one.queue for one in await parking.list_parked(parked, queue=SYNC)] == [SYNC]


async def test_one_of_several_with_the_same_id_is_replayed_by_its_number(parked: str) -> None:
    """The number is the one that the list shows; the others stay, in their order."""
    (sent,) = await parking.replay(parked, queue=AUDIT, number=2)
    assert (sent.body, sent.number, sent.message_id) == ("2", 2, "same")
    (left,) = await parking.list_parked(parked, queue=AUDIT)
    assert [(one.number, one.body) for one in left.messages] == [(1, "1"), (2, "3")]
    assert await depth(parked, AUDIT) == 1
    assert await parking.replay(parked, queue=AUDIT, number=3) == []


def test_the_list_says_how_much_it_does_not_show(parked: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows for programs on the one channel, the rest of the story on the other."""
    assert parked
    assert run_list(Path(".env"), queue=None, limit=2, as_json=False) == 1
    told = capsys.readouterr()
    assert [line.split("\t")[:2] for line in told.out.splitlines()] == [[SYNC, "1"], [AUDIT, "1"], [AUDIT, "2"]]
    assert told.err == f"{AUDIT}: the oldest 2 of 3; see more with --limit.\n"


def test_a_number_without_its_queue_is_a_mistake_of_who_asks(parked: str) -> None:
    """It counts within a queue: exit code 2, like any other misuse, and nothing is sent."""
    said = CliRunner().invoke(app, ["parked", "replay", "--number", "1"])
    assert (said.exit_code, "--queue" in said.output) == (2, True)
    assert asyncio.run(parking.list_parked(parked))[1].count == 3


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"queue": "nonsense"}, "There is no queue nonsense"),
        ({"queue": AUDIT, "number": 9}, f"No parked message has the number 9 in {AUDIT}"),
        ({"message_id": "x"}, "No parked message has the id x"),
    ],
)
def test_what_does_not_exist_is_told_and_nothing_sent(parked: str, asked: dict[str, Any], what: str) -> None:
    """A queue that is none, a number or an id that nothing has."""
    with pytest.raises(InfraError, match=what):
        run_replay(Path(".env"), **{"message_id": None, "queue": None, "number": None, "as_json": False, **asked})
    (_, left) = asyncio.run(parking.list_parked(parked))
    assert left.count == 3
