"""What others ask and tell of chargers over the bus, with a sync there that answers for the charger."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from services.preauth.chargers.jobs import LOOKED_AT_STALE
from shared.bus.requests import Requester, RequestServer
from shared.bus.topology import Topology
from shared.contracts.event import Event
from shared.contracts.events.sync import ChargerOperationFinished, ChargerOperationRequested
from shared.contracts.problem import NotFound
from shared.contracts.request import ReplyEnvelope, RequestEnvelope
from shared.contracts.requests.preauth import ArmPairing, ChargerView, GetCharger
from shared.contracts.requests.sync import OperationResult
from shared.runtime.clock import Clock, utc_now
from tests.databases import TestDatabase
from tests.integration.services.preauth.world import OPERATOR, MovableClock, Preauth, cause, running
from tests.waiting import until

CP = "CP-7"


@dataclass
class Charger:
    """A charger that tells its configuration, to sync and to whoever asks sync."""

    pre_authorize: str = "true"
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: RequestEnvelope) -> ReplyEnvelope:
        if request.name != "operate_charger":
            return ReplyEnvelope(ok=False, problem=NotFound("Nothing else is known here.").details())
        self.asked.append(request.data["operation"])
        keys = [{"key": "LocalPreAuthorize", "value": self.pre_authorize, "readonly": False}]
        result = OperationResult(
            charge_box_id=CP,
            operation="GetConfiguration",
            outcome="accepted",
            response={"configurationKeys": keys},
            asked_at=utc_now(),
        )
        return ReplyEnvelope(ok=True, value=result.model_dump(mode="json"))


@asynccontextmanager
async def on_the_bus(amqp_url: str, charger: Charger, clock: Clock) -> AsyncIterator[Requester]:
    """Sync as far as it is asked, and a way to ask preauth."""
    requester = Requester(amqp_url, service="admin_api", topology=Topology(), clock=clock)
    server = RequestServer(amqp_url, service="sync", topology=Topology(), clock=clock, answer=charger.answer)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for part in (requester, server):
            group.create_task(part.run(stop))
        try:
            yield requester
        finally:
            stop.set()


async def publish(preauth: Preauth, event: Event) -> None:
    """Whose outbox it comes from does not matter to the bus."""
    async with preauth.service.database.write() as tx:
        await preauth.service.outbox.add(tx, event, cause())


async def test_a_charger_that_somebody_looks_at_or_changed_is_asked_anew(
    database: TestDatabase, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked over the bus about a charger that takes no cards, or told that its configuration was changed, preauth
    asks sync, and the next who looks sees what it told.
    """
    monkeypatch.setattr("services.preauth.chargers.jobs.ASK_EVERY_S", 0.5)
    charger, clock = Charger(), MovableClock()
    async with (
        on_the_bus(broker, charger, clock) as requester,
        running(database, tmp_path, clock=clock, bus=True, amqp_url=SecretStr(broker)) as preauth,
    ):
        preauth.run(
            "INSERT INTO charger (charge_box_id, first_seen_at, last_seen_at) VALUES (%s, now(), now())",
            CP,
        )

        async def looked() -> ChargerView | None:
            if not requester.connected or await preauth.service.checks["requests"]() is not None:
                return None
            return await requester.ask(GetCharger(charge_box_id=CP), actor=OPERATOR)

        async def ready(state: str) -> bool:
            return bool(preauth.rows("SELECT FROM charger WHERE charge_box_id = %s AND ready = %s", CP, state))

        await until(lambda: ready("no"))
        assert charger.asked == ["GetConfiguration"]
        charger.pre_authorize = "false"
        clock.ahead += LOOKED_AT_STALE
        view = await until(looked)
        assert view is not None
        assert view.readiness.ready == "no"
        await until(lambda: ready("yes"))
        charger.pre_authorize = "true"
        done = ChargerOperationFinished(
            operation_id=uuid4(),
            charge_box_id=CP,
            operation="ChangeConfiguration",
            parameters={},
            outcome="accepted",
            problem=None,
        )
        await publish(preauth, done)
        await until(lambda: ready("no"))
        assert len(charger.asked) == 3


async def test_a_remote_start_of_sync_is_heard_of(database: TestDatabase, broker: str, tmp_path: Path) -> None:
    """Sync has SteVe start a session with a card: at that charger it is no scan, also where no gateway saw it pass."""
    async with running(database, tmp_path, bus=True, amqp_url=SecretStr(broker)) as preauth:
        asked = ChargerOperationRequested(
            operation_id=uuid4(),
            charge_box_id=CP,
            operation="RemoteStartTransaction",
            parameters={"idTag": "04A1"},
        )
        await publish(preauth, asked)
        await preauth.until("SELECT FROM remote_start", within_s=20)
        await preauth.done(ArmPairing(charge_box_id=CP, purpose="find_card"))
        assert await preauth.tap("04A1", CP) is None
        assert preauth.rows("SELECT reason FROM tap") == [{"reason": "remote_start_pending"}]
