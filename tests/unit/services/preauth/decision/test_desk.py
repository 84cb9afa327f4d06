"""The desk at a stop: what a tunnel that left told is handed on before the desk says that it is done."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

from services.preauth.decision.desk import GatewayDesk
from services.preauth.decision.rules import Reason
from services.preauth.decision.tap import Decision, Tap
from services.preauth.gateway.ports import Presented
from shared.contracts.events.preauth import Told
from shared.database.engine import Database
from shared.runtime.clock import utc_now, uuid7


@dataclass
class Slow:
    """Decides when the test says so."""

    decided: asyncio.Event = field(default_factory=asyncio.Event)
    told_of: list[Told] = field(default_factory=list)

    async def decide(self, tap: Tap) -> Decision:
        await self.decided.wait()
        return Decision(tap, uuid7(), utc_now(), block=False, reason=Reason.NOT_DECIDED)

    def may_block(self, decision: Decision) -> bool:
        return decision.block

    def told(self, decision: Decision, told: Told, at: object = None) -> None:  # noqa: ARG002
        self.told_of.append(told)


async def test_desk_is_not_done_before_what_was_told_is_handed_on() -> None:
    """A tap that passed before it was decided: the last turn waits for the decision, so that it is not left untold."""
    decider = Slow()
    desk = GatewayDesk(decider, cast("Database", None), lambda: False)
    tap = Presented(
        tap_id=uuid7(),
        charge_box_id="CP",
        id_tag="A",
        kind="start",
        connector_id=1,
        at=utc_now(),
        remote_start=False,
    )
    desk.told(tap, "passed", in_time=False)
    turn = asyncio.create_task(desk.write_answers())
    await asyncio.sleep(0.02)
    assert not turn.done()
    decider.decided.set()
    await turn
    assert decider.told_of == ["passed"]
