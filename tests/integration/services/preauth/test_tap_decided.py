"""The event that the database seals from a tap's row is the one that the contract's own class makes."""

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from services.preauth.decision.group import OPTIONS
from services.preauth.decision.statement import Answered, Waiting, Windows, flush, flush_sql
from services.preauth.decision.tap import Tap
from shared.contracts.event import open_envelope, open_event, seal
from shared.contracts.events.preauth import TapDecided
from shared.contracts.identity import Actor, Cause
from shared.runtime.clock import uuid7
from tests.integration.services.preauth.world import Preauth

PAIRING = UUID(int=3)


def sealed(row: dict[str, Any], event: dict[str, Any], correlation_id: UUID) -> dict[str, Any]:
    """What the contract's class makes of a tap's row."""
    names = set(TapDecided.model_fields) - {"tapped_at", "decision"}
    body = seal(
        TapDecided(tapped_at=row["received_at"], decision="pass", **{name: row[name] for name in names}),
        event_id=UUID(event["id"]),
        subject_version=1,
        at=row["told_at"],
        cause=Cause(actor=Actor(kind="charger", id=row["charge_box_id"]), correlation_id=correlation_id),
    )
    found: dict[str, Any] = json.loads(body)
    return found


def timed(event: dict[str, Any]) -> dict[str, Any]:
    """With times as times: the zeros that a fraction ends with are written here and left out there."""
    data = {**event["data"], "tapped_at": datetime.fromisoformat(event["data"]["tapped_at"])}
    return {**event, "time": datetime.fromisoformat(event["time"]), "data": data}


@pytest.mark.parametrize("correlation_id", [None, PAIRING])
@pytest.mark.parametrize(("as_sent", "connector_id"), [("04A1", None), ('04a1 ä"\\\u2028\t{0}%s:x', 2)])
@pytest.mark.parametrize("microsecond", [0, 123400])
async def test_the_event_is_the_one_that_the_contract_seals(
    preauth: Preauth, correlation_id: UUID | None, as_sent: str, connector_id: int | None, microsecond: int
) -> None:
    """Field for field, whatever characters a card or a charger has, and it opens as a `tap.decided`."""
    at = preauth.clock().replace(microsecond=microsecond)
    tap = Tap(as_sent, 'CP:"7"/ä\\', "authorize", "gateway", 0.0, connector_id=connector_id)
    waiting = Waiting(tap, uuid4(), at, stale=False)
    answered = Answered(waiting.tap_id, at, "passed", at, True, 812, uuid7(), correlation_id)
    async with await psycopg.AsyncConnection.connect(
        preauth.database.url("preauth").replace("+psycopg", ""), autocommit=True, options=OPTIONS
    ) as connection:
        sql = flush_sql(Windows())
        await flush(connection, sql, [waiting], [])
        await flush(connection, sql, [], [answered])
    [row] = preauth.rows("SELECT * FROM tap")
    [event] = preauth.events("tap.decided")
    assert event["id"] == str(answered.event_id)
    assert timed(event) == timed(sealed(row, event, correlation_id or waiting.tap_id))
    assert isinstance(open_event(open_envelope(json.dumps(event).encode())), TapDecided)


async def test_the_event_of_a_tap_whose_answer_stays_unknown_is_complete(preauth: Preauth) -> None:
    """A row that the sweeper closes has no time of telling and no duration; its event is whole all the same."""
    at = preauth.clock()
    async with await psycopg.AsyncConnection.connect(
        preauth.database.url("preauth").replace("+psycopg", ""), autocommit=True, options=OPTIONS
    ) as connection:
        tap = Tap("04A1", "CP", "authorize", "gateway", 0.0)
        await flush(connection, flush_sql(Windows()), [Waiting(tap, uuid4(), at, stale=False)], [])
    preauth.clock.ahead += timedelta(seconds=5)
    preauth.healthy_for(5)
    await preauth.until("SELECT 1 FROM tap WHERE told = 'unknown'")
    [event] = preauth.events("tap.decided")
    opened = open_event(open_envelope(json.dumps(event).encode()))
    assert isinstance(opened, TapDecided)
    assert (opened.told, opened.in_time, opened.duration_us) == ("unknown", False, 0)
