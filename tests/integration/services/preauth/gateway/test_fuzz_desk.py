"""Frames that nobody sends on purpose, with the whole house behind the gateway: decided, journalled, observed."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from deploy.demo.steve.simulator import SteveSimulator
from services.preauth.gateway.server import Gateway
from shared.contracts.requests.preauth import ArmPairing
from tests.databases import TestDatabase
from tests.integration.services.preauth.gateway.support import DEADLINE_S
from tests.integration.services.preauth.world import Preauth, running
from tests.waiting import until

EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

# Surrogates cannot be sent as UTF-8, but JSON can escape them; so it can a NUL, which PostgreSQL does not take.
text = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=30),
    st.sampled_from(["", " ", "CARD", "\x00", "\ud800", "a" * 300, "ß" * 20, "İ", "'; --", "%00"]),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))
times = st.one_of(text, st.sampled_from(["2026-05-01T10:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:60Z"]))
numbers = st.one_of(st.integers(), st.sampled_from([-1, 0, 1, 2**31, 2**63, 2**100]), values)


def payload(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


PAYLOADS: dict[str, st.SearchStrategy[Any]] = {
    "Authorize": st.fixed_dictionaries({"idTag": st.just("CARD") | text}),
    "StartTransaction": payload(connectorId=numbers, idTag=text, meterStart=numbers, timestamp=times),
    "StopTransaction": payload(transactionId=numbers, idTag=text, meterStop=numbers, timestamp=times, reason=text),
    "StatusNotification": payload(connectorId=numbers, status=text, errorCode=text, info=text, timestamp=times),
    "BootNotification": payload(chargePointVendor=text, chargePointModel=text, firmwareVersion=text),
    "FirmwareStatusNotification": payload(status=text),
    "MeterValues": payload(connectorId=numbers, meterValue=values),
}


@st.composite
def frames(draw: st.DrawFn) -> str:
    """A call with the right names and any values, or with anything at all."""
    action = draw(st.sampled_from([*PAYLOADS, "Authorize", "Authorize"]))
    body = draw(st.one_of(PAYLOADS[action], PAYLOADS[action], values))
    return json.dumps([2, draw(st.text("abc\x00é", min_size=1, max_size=40)), action, body])


@pytest.fixture
async def house(database: TestDatabase, tmp_path: Path, steve: SteveSimulator) -> AsyncIterator[Preauth]:
    async with running(database, tmp_path, steve_ocpp_url=steve.ocpp_url, ocpp_port=0) as one:
        yield one


async def test_no_frame_crashes_the_house(house: Preauth, steve: SteveSimulator) -> None:
    """Each passes or is refused by SteVe; every tap among them is journalled and told; nobody falls; scans go on."""
    gateway = next(part for part in house.service.parts if isinstance(part, Gateway))

    def connected() -> ClientConnection:
        url = f"ws://127.0.0.1:{gateway.port}/ocpp/CP-1"
        return connect(url, subprotocols=[Subprotocol("ocpp1.6")], compression=None, proxy=None, max_size=None)

    def beats(charger: ClientConnection) -> None:
        charger.send('[2,"beat","Heartbeat",{}]')
        while json.loads(charger.recv(timeout=DEADLINE_S))[:2] != [3, "beat"]:
            pass

    @EXAMPLES
    @given(st.lists(frames(), min_size=1, max_size=12))
    def fuzz(some: list[str]) -> None:
        with connected() as charger:
            try:
                for frame in some:
                    charger.send(frame)
                beats(charger)
            except ConnectionClosed:
                # What SteVe closes over (facts: SteVe), the charger hears as SteVe said it.
                assert charger.close_code in {1007, 1011}
        with connected() as charger:
            beats(charger)

    await house.done(ArmPairing(charge_box_id="CP-1", purpose="find_card", window_s=300))
    await asyncio.to_thread(fuzz)

    async def written() -> bool:
        parts = house.taps
        open_taps = house.rows("SELECT 1 FROM tap WHERE told IS NULL")
        return not (open_taps or len(parts.spool) or parts.group.pending() or parts.matches.pending())

    await until(written)
    assert house.rows("SELECT 1 FROM tap WHERE id_tag = 'CARD'"), "no tap was among them"
    assert house.rows("SELECT reason FROM tap WHERE reason IN ('not_decided', 'database_away', 'database_slow')") == []
    assert house.rows("SELECT 1 FROM journal_gap") == []
    await house.done(ArmPairing(charge_box_id="CP-1", purpose="find_card", window_s=300))

    def tap() -> str:
        with connected() as charger:
            charger.send('[2,"last","Authorize",{"idTag":"CARD"}]')
            answer: list[Any] = json.loads(charger.recv(timeout=DEADLINE_S))
        return str(answer[2]["idTagInfo"]["status"])

    assert await asyncio.to_thread(tap) == "Blocked"
