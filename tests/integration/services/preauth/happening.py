"""What happens around taps: sessions that sync tells of, scans that are intercepted, and judgement on them."""

import time
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from shared.contracts.event import Envelope, Event
from shared.contracts.events.sync import (
    TransactionStarted,
    TransactionStopped,
)
from shared.contracts.requests.preauth import ArmPairing
from tests.integration.services.preauth.world import Preauth

CP = "CP-7"


async def happen(preauth: Preauth, event: Event, version: int = 1, *, ahead: timedelta = timedelta()) -> None:
    """Hand an event to its handlers the way the inbox does. `ahead`: by which its sender's clock is."""
    envelope = Envelope(
        specversion="1.0",
        id=uuid4(),
        type=event.type,
        source="expressync/sync",
        subject=event.subject(),
        subjectversion=version,
        time=preauth.clock() + ahead,
        dataschema=f"urn:expressync:{event.type}:{event.version}",
        actorkind="upstream",
        actorid="steve",
        correlationid=uuid4(),
        data=event.model_dump(mode="json"),
    )
    async with preauth.service.database.write() as tx:
        for handler in preauth.service.consumer.handlers(event):
            await handler(tx, event, envelope)


async def arm(preauth: Preauth, charger: str = CP) -> None:
    await preauth.done(ArmPairing(charge_box_id=charger, purpose="find_card"))


async def session(preauth: Preauth, pk: int, card: str, charger: str = CP, *, ago_s: float = 0) -> TransactionStarted:
    return await session_at(preauth, pk, card, preauth.clock() - timedelta(seconds=ago_s), charger)


async def session_at(preauth: Preauth, pk: int, card: str, at: datetime, charger: str = CP) -> TransactionStarted:
    """A session that is told of now, and began then by its station's clock."""
    event = TransactionStarted(
        session=f"steve:{pk}", charge_box_id=charger, id_tag=card, connector_id=1, started_at=at, start_wh=1000
    )
    await happen(preauth, event)
    return event


async def stop(preauth: Preauth, started: TransactionStarted, *, energy_wh: int, after_s: float) -> None:
    event = TransactionStopped(
        session=started.session,
        charge_box_id=started.charge_box_id,
        id_tag=started.id_tag,
        connector_id=1,
        started_at=started.started_at,
        stopped_at=started.started_at + timedelta(seconds=after_s),
        start_wh=1000,
        stop_wh=1000 + energy_wh,
        stop_reason="Local",
        provisional=False,
    )
    await happen(preauth, event)


async def intercepted(preauth: Preauth, card: str = "04A1") -> dict[str, Any]:
    await arm(preauth)
    assert await preauth.tap(card, CP) == "BLOCKED"
    await preauth.until("SELECT 1 FROM pairing WHERE state = 'intercepted' AND id_tag = %s", card)
    preauth.run(
        "INSERT INTO charger (charge_box_id, first_seen_at, last_seen_at) VALUES (%s, now(), now())"
        " ON CONFLICT DO NOTHING",
        CP,
    )
    return preauth.rows("SELECT * FROM tap")[0]


def long_without_outage(preauth: Preauth) -> None:
    """As if preauth had been started a minute ago: the first seconds nobody is judged."""
    preauth.taps.group._healthy_since = time.monotonic() - 60


async def judge(preauth: Preauth) -> None:
    """One turn, here and now; the service's own come every few seconds."""
    long_without_outage(preauth)
    await turn(preauth)


async def turn(preauth: Preauth) -> None:
    every = next(part for part in preauth.service.parts if part.name == "evidence.judge")
    await every._job()  # type: ignore[attr-defined]
