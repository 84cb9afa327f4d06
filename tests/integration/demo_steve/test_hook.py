import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.chargers.charger import Charger
from deploy.demo.steve.hook import signature
from deploy.demo.steve.listen import HttpListener
from deploy.demo.steve.settings import HookSettings
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from tests.integration.demo_steve.support import QUICK, charger, settings_of

KEY = "hook-key"
PATH = "/api/ocpp/pre-authorize"


@dataclass
class HookStub:
    """Answers as told and keeps what it was asked."""

    status: int = 200
    body: bytes = b'{"override": "BLOCKED"}'
    delay_s: float = 0
    calls: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        self.calls.append((dict(request.headers), await request.body()))
        await asyncio.sleep(self.delay_s)
        return Response(self.body, self.status, media_type="application/json")

    @property
    def asked(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.calls]


@asynccontextmanager
async def patched(stub: HookStub, budget_ms: int = 5_000) -> AsyncIterator[SteveSimulator]:
    listener = HttpListener(Starlette(routes=[Route(PATH, stub.answer, methods=["POST"])]), "127.0.0.1", 0)
    await listener.start()
    hook = HookSettings(url=f"http://127.0.0.1:{listener.port}{PATH}", key=KEY, budget_ms=budget_ms)
    try:
        async with run_steve(replace(QUICK, hook=hook)) as steve:
            steve.state.add_charger("CP-1")
            steve.state.add_tag("CARD")
            steve.state.add_tag("BLOCKED", limit=0)
            yield steve
    finally:
        await listener.stop()


async def test_the_call_is_as_documented() -> None:
    """Body, types and signature of an Authorize and of a StartTransaction."""
    stub = HookStub(body=b'{"override": null}')
    async with patched(stub) as steve, charger(steve) as station:
        before = datetime.now(UTC).timestamp() * 1000
        await station.tap(2, "CARD")
    assert [{name: value for name, value in one.items() if name != "ts"} for one in stub.asked] == [
        {"idTag": "CARD", "chargeBoxId": "CP-1", "connectorId": None, "isStartTx": False},
        {"idTag": "CARD", "chargeBoxId": "CP-1", "connectorId": 2, "isStartTx": True},
    ]
    assert all(abs(one["ts"] - before) < 5_000 and isinstance(one["ts"], int) for one in stub.asked)
    for headers, body in stub.calls:
        assert headers["x-signature"] == signature(KEY, body)
        assert headers["content-type"] == "application/json"


async def test_an_override_blocks_the_tap() -> None:
    """BLOCKED over an Accepted: the station is told Blocked, and no session starts."""
    async with patched(HookStub()) as steve, charger(steve) as station:
        told = await station.tap(1, "CARD")
        assert (told.authorize, told.charging) == ("Blocked", False)
        assert steve.state.transactions == {}


async def test_an_overridden_start_leaves_a_transaction() -> None:
    """BLOCKED over a StartTransaction: told Blocked, but the row exists."""
    async with patched(HookStub()) as steve, charger(steve) as station:
        told = await station.tap(1, "CARD", start_only=True)
        assert (told.start, told.charging) == ("Blocked", False)
        assert list(steve.state.transactions) == [told.transaction_id]


@pytest.mark.parametrize(("id_tag", "verdict"), [("NOBODY", "Invalid"), ("BLOCKED", "Blocked")])
async def test_it_asks_for_cards_that_are_refused_anyway(id_tag: str, verdict: str) -> None:
    """The hook hears of unknown and blocked cards, and cannot change SteVe's refusal."""
    stub = HookStub()
    async with patched(stub) as steve, charger(steve) as station:
        assert (await station.tap(1, id_tag)).authorize == verdict
    assert [one["idTag"] for one in stub.asked] == [id_tag]


@pytest.mark.parametrize(
    ("stub", "outcome"),
    [
        (HookStub(body=b'{"override": null}'), "none"),
        (HookStub(body=b'{"override": "ALLOWED"}'), "none"),
        (HookStub(body=b"{}"), "bad body"),
        (HookStub(body=b"not json"), "bad body"),
        (HookStub(body=b'["BLOCKED"]'), "bad body"),
        (HookStub(status=500), "status 500"),
        (HookStub(status=401), "status 401"),
        (HookStub(status=204, body=b""), "status 204"),
    ],
    ids=["null", "other word", "missing", "no json", "no object", "500", "401", "204"],
)
async def test_anything_else_is_no_override(stub: HookStub, outcome: str) -> None:
    """Only a 200 that says BLOCKED blocks; with everything else the driver charges."""
    async with patched(replace(stub, calls=[])) as steve, charger(steve) as station:
        told = await station.tap(1, "CARD")
        assert (told.authorize, told.charging) == ("Accepted", True)
        assert steve.hook is not None
        assert steve.hook.outcomes == {outcome: 2}


async def test_a_late_answer_is_no_override() -> None:
    """After the usual budget of 200 ms the station gets SteVe's own verdict, not much later."""
    async with patched(HookStub(delay_s=2), budget_ms=200) as steve, charger(steve) as station:
        began = perf_counter()
        told, _ = await station.authorize("CARD")
        took_s = perf_counter() - began
        assert told == "Accepted"
        assert 0.2 <= took_s < 1.5
        assert steve.hook is not None
        assert steve.hook.outcomes == {"timeout": 1}


def test_the_usual_budget() -> None:
    """Unless told otherwise SteVe waits 200 ms."""
    assert HookSettings(url="", key="").budget_ms == 200


async def test_an_unreachable_hook_is_no_override() -> None:
    """With nobody listening the driver charges."""
    hook = HookSettings(url=f"http://127.0.0.1:9{PATH}", key=KEY)
    async with run_steve(replace(QUICK, hook=hook)) as steve:
        steve.state.add_charger("CP-1")
        steve.state.add_tag("CARD")
        async with charger(steve) as station:
            assert (await station.tap(1, "CARD")).charging


async def test_a_charger_that_does_not_honour_a_block_charges() -> None:
    """Told Blocked twice it charges anyway, and SteVe has a transaction with energy."""
    async with patched(HookStub()) as steve:
        async with Charger(replace(settings_of(steve), honours_override=False)) as station:
            told = await station.tap(1, "CARD")
            assert (told.authorize, told.start, told.charging) == ("Blocked", "Blocked", True)
            await station.stop(1, energy_wh=5_000)
        stop = steve.state.transactions[1].stop
        assert stop is not None
        assert stop.value == "6000"


async def test_an_idle_connection_is_used_again() -> None:
    """Like a real pooled caller it keeps its connection through a pause, and does not open one for each tap."""
    peers: set[int] = set()

    class Peers(HookStub):
        async def answer(self, request: Request) -> Response:
            assert request.client is not None
            peers.add(request.client.port)
            return await super().answer(request)

    async with patched(Peers()) as steve, charger(steve) as station:
        for pause_s in (0, 6):
            await asyncio.sleep(pause_s)
            assert (await station.authorize("CARD"))[0] == "Blocked"
    assert len(peers) == 1
