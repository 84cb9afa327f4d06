"""Callers of the hook that leave before they are answered, on a real server and a real PostgreSQL."""

import asyncio
import socket
import time

import psycopg
import pytest

from services.preauth.decision.tap import Decision, Tap
from shared.contracts.requests.preauth import ArmPairing
from shared.web.signatures import hex_hmac
from tests.integration.services.preauth.world import KEY, Preauth

CP = "CP-7"


async def call(preauth: Preauth, card: str) -> socket.socket:
    """A call on a connection of its own, written and not answered yet."""
    body = preauth.body(card, CP)
    url = preauth.http.base_url
    head = (
        f"POST /api/ocpp/pre-authorize HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: application/json\r\n"
        f"X-Signature: {hex_hmac(KEY.encode(), body)}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    caller = socket.create_connection((url.host, url.port or 80))
    caller.setblocking(False)
    await asyncio.get_running_loop().sock_sendall(caller, head.encode() + body)
    return caller


async def arm(preauth: Preauth) -> None:
    await preauth.done(ArmPairing(charge_box_id=CP, purpose="find_card"))


async def nobody_is_let_in(preauth: Preauth) -> None:
    [tap] = await preauth.until("SELECT * FROM tap WHERE told IS NOT NULL")
    assert (tap["reason"], tap["told"], tap["in_time"]) == ("matched", "unknown", False)
    [pairing] = preauth.rows("SELECT state FROM pairing")
    assert pairing["state"] == "void"
    assert preauth.events("scan.intercepted") == []


async def test_a_caller_that_left_during_the_decision_was_told_nothing(preauth: Preauth) -> None:
    """The caller closes while its tap is decided: the match is void, and no scan is told of."""
    await arm(preauth)
    async with await psycopg.AsyncConnection.connect(preauth.database.admin_url) as holding:
        await holding.execute("SELECT FROM preauth.pairing FOR UPDATE")
        caller = await call(preauth, "04A1")
        await asyncio.sleep(0.1)
        caller.close()
        await asyncio.sleep(0.1)
    await nobody_is_let_in(preauth)


async def test_a_caller_that_gave_up_while_we_were_held_up_was_told_nothing(
    preauth: Preauth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process stands still just before it answers, and the caller gives up: nothing it did not read counts."""
    await arm(preauth)
    caller = await call(preauth, "04A1")
    decide = preauth.taps.decider.decide

    async def held_up(tap: Tap) -> Decision:
        decision = await decide(tap)
        caller.close()
        time.sleep(0.4)  # noqa: ASYNC251 - the whole loop shall stand still
        return decision

    monkeypatch.setattr(preauth.taps.decider, "decide", held_up)
    await nobody_is_let_in(preauth)


async def test_a_caller_that_waits_is_told_blocked_and_may_leave_at_once(preauth: Preauth) -> None:
    """A caller that reads its answer and closes was told: the scan counts."""
    await arm(preauth)
    caller = await call(preauth, "04A1")
    answer = await asyncio.get_running_loop().sock_recv(caller, 4096)
    caller.close()
    assert answer.startswith(b"HTTP/1.1 200")
    [tap] = await preauth.until("SELECT * FROM tap WHERE told IS NOT NULL")
    assert (tap["told"], tap["in_time"]) == ("blocked", True)
    assert len(preauth.events("scan.intercepted")) == 1
