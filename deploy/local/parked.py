"""`expressync parked`: what lies aside, why, and how to send it again."""

import asyncio
import dataclasses
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from aio_pika.exceptions import AMQPError
from rich.console import Console
from rich.table import Table

from deploy.local.environment import AMQP, read_dotenv
from deploy.local.home import Home
from deploy.local.infra.broker import provide_broker
from deploy.local.infra.errors import InfraError
from deploy.local.running import launcher
from shared.bus import parking
from shared.bus.parking import Parked

T = TypeVar("T")
COULD_NOT, FINDING, FINE = 3, 1, 0


def broker_url(env_file: Path) -> str:
    """The broker in use: the one that is given, else the private node of the stack that runs.

    :raises InfraError: when there is neither.
    """
    given = read_dotenv(env_file).get(AMQP)
    if given:
        return given
    for home in (Home.of("live"), Home.of("demo")):
        if launcher(home) is not None:
            return provide_broker(home.folder / "rabbitmq", home.packages).url
    raise InfraError(
        "There is no broker to ask.",
        f"{AMQP} is not set, and no stack runs here.",
        "Start one with `expressync up` or `expressync demo`, or set the address in .env.",
    )


def _ask(work: Coroutine[Any, Any, list[T]]) -> list[T]:
    try:
        return asyncio.run(work)
    except parking.UnknownQueueError as error:
        raise InfraError(
            f"There is no queue {error.queue}.",
            f"Messages are parked from {', '.join(parking.queues())}.",
            "Give one of these, or none for all.",
        ) from error
    except (AMQPError, OSError, TimeoutError) as error:
        raise InfraError(
            "The broker did not answer.", repr(error), "Check it with `expressync doctor`, then try again."
        ) from error


def _show(found: list[Parked]) -> None:
    rows = [
        [one.queue, str(one.number), one.message_id or "-", one.type or "-", one.parked_at or "-", one.reason]
        for one in found
    ]
    console = Console()
    if not console.is_terminal:
        for row in rows:
            print("\t".join(row))
        return
    table = Table("queue", "number", "message", "type", "parked", "reason")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def run_list(env_file: Path, *, queue: str | None, limit: int, as_json: bool) -> int:
    """As JSON: `[{"queue", "count", "messages": [...]}]`, the oldest `limit` messages of each queue."""
    found = _ask(parking.list_parked(broker_url(env_file), queue=queue, limit=limit))
    if as_json:
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=1))
    elif not found:
        print("Nothing is parked.")
    else:
        _show([message for shelf in found for message in shelf.messages])
        for shelf in found:
            if shelf.count > len(shelf.messages):
                print(
                    f"{shelf.queue}: the oldest {len(shelf.messages)} of {shelf.count}; see more with --limit.",
                    file=sys.stderr,
                )
    return FINDING if found else FINE


def run_replay(env_file: Path, *, message_id: str | None, queue: str | None, number: int | None, as_json: bool) -> int:
    sent = _ask(parking.replay(broker_url(env_file), queue=queue, message_id=message_id, number=number))
    if not sent and (message_id is not None or number is not None):
        which = f"the id {message_id}" if message_id is not None else f"the number {number} in {queue}"
        raise InfraError(
            f"No parked message has {which}.",
            "It may have been replayed already.",
            "See what is parked with `expressync parked list`.",
        )
    if as_json:
        print(json.dumps([dataclasses.asdict(one) for one in sent], indent=1))
    elif sent:
        _show(sent)
    else:
        print("Nothing is parked, so nothing was sent.")
    return FINE
