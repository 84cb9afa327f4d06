"""The quickly sealed event is the same as the carefully sealed one."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from services.preauth.decision.events import tap_decided
from shared.contracts.event import open_envelope, open_event, seal
from shared.contracts.events.preauth import TapDecided
from shared.contracts.identity import Actor, Cause

TAP, EVENT, PAIRING = UUID(int=1), UUID(int=2), UUID(int=3)
AT = datetime(2026, 5, 1, 9, 30, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize("pairing_id", [None, PAIRING])
@pytest.mark.parametrize("received_at", [AT, AT.replace(microsecond=0)])
@pytest.mark.parametrize("as_sent", [None, '04a1 ä"\\\u2028'])
def test_the_fast_seal_equals_the_slow_one(pairing_id: UUID | None, received_at: datetime, as_sent: str | None) -> None:
    """Field for field, the event that the hot path writes is what the contract's own class would write."""
    common: dict[str, Any] = {
        "tap_id": TAP,
        "charge_box_id": "CP:7/ä",
        "connector_id": None,
        "id_tag": "04A1",
        "id_tag_as_sent": as_sent,
        "kind": "authorize",
        "reason": "matched",
        "told": "blocked",
        "in_time": True,
        "duration_us": 812,
        "via": "hook",
        "pairing_id": pairing_id,
    }
    fast = tap_decided(event_id=EVENT, at=AT, received_at=received_at, correlation_id=PAIRING, **common)
    slow = seal(
        TapDecided(tapped_at=received_at, decision="intercept", **common),
        event_id=EVENT,
        subject_version=1,
        at=AT,
        cause=Cause(actor=Actor(kind="charger", id="CP:7/ä"), correlation_id=PAIRING),
    )
    assert json.loads(fast) == json.loads(slow)
    assert isinstance(open_event(open_envelope(fast)), TapDecided)
