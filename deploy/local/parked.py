"""`expressync parked`: what lies aside, why, and how to send it again."""

import asyncio
import dataclasses
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

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


def _ask(work: Coroutine[Any, Any, list[Parked]]) -> list[Parked]:
    try:
        return asyncio.run(work)
    except (AMQPError, OSError, TimeoutError) as error:
        raise InfraError(
            "The broker did not answer.", repr(error), "Check it with `expressync doctor`, then try again."
        ) from error


def _show(found: list[Parked], *, as_json: bool, nothing: str) -> None:
    if as_json:
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=1))
        return
    if not found:
        print(nothing)
        return
    console = Console()
    if not console.is_terminal:
        for one in found:
            print("\t".join([one.queue, one.message_id or "-", one.type or "-", one.parked_at or "-", one.reason]))
        return
    table = Table("queue", "message", "type", "parked", "reason")
    for one in found:
        table.add_row(one.queue, one.message_id or "-", one.type or "-", one.parked_at or "-", one.reason)
    console.print(table)


def run_list(env_file: Path, *, as_json: bool) -> int:
    found = _ask(parking.list_parked(broker_url(env_file)))
    _show(found, as_json=as_json, nothing="Nothing is parked.")
    return FINDING if found else FINE


def run_replay(env_file: Path, *, message_id: str | None, queue: str | None, as_json: bool) -> int:
    sent = _ask(parking.replay(broker_url(env_file), queue=queue, message_id=message_id))
    if message_id is not None and not sent:
        raise InfraError(
            f"No parked message has the id {message_id}.",
            "It may have been replayed already.",
            "See what is parked with `expressync parked list`.",
        )
    _show(sent, as_json=as_json, nothing="Nothing is parked, so nothing was sent.")
    return FINE
