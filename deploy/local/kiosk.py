"""The demo's kiosk: the code that an operator would make for it, asked of preauth over the bus."""

import asyncio
from uuid import uuid4

from shared.bus.requests import Requester
from shared.bus.topology import Topology
from shared.contracts.identity import Actor
from shared.contracts.requests.preauth import EnrolKiosk
from shared.runtime.clock import utc_now

CONNECTED_WITHIN_S = 20.0
NAME = "Demo kiosk"


async def enrolment_code(amqp_url: str, charge_box_ids: list[str]) -> str:
    """A one-time code for a new kiosk beside these chargers."""
    requester = Requester(amqp_url, service="demo", topology=Topology(), clock=utc_now)
    stop = asyncio.Event()
    running = asyncio.create_task(requester.run(stop))
    try:
        async with asyncio.timeout(CONNECTED_WITHIN_S):
            while not requester.connected:  # noqa: ASYNC110 - the requester has no event for it
                await asyncio.sleep(0.02)
        made = await requester.ask(
            EnrolKiosk(kiosk_name=NAME, charge_box_ids=charge_box_ids),
            actor=Actor(kind="system", id="demo"),
            key=str(uuid4()),
        )
    finally:
        stop.set()
        await running
    return made.code
