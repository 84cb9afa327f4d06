"""A process that is told to stop in the middle of everything."""

import asyncio
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from services.preauth.gateway.server import Gateway
from services.preauth.login.browser import KIOSK_COOKIE
from shared.contracts.requests.preauth import EnrolKiosk
from tests.databases import TestDatabase, locked
from tests.integration.services.preauth.gateway.support import charger_socket, peer, until
from tests.integration.services.preauth.processes import Process, process
from tests.integration.services.preauth.world import Preauth, running

CP, CARD = "CP-7", "04A1"
GRACE_S = 5.0
UNANSWERED = '[2,"1","StartTransaction",{}]'
BEHIND = [f'[2,"{number}","MeterValues",{{}}]' for number in range(2, 40)]


class Steve:
    """Takes every frame, and answers none but an Authorize."""

    def __init__(self) -> None:
        self.got: list[str] = []

    async def __call__(self, connection: ServerConnection) -> None:
        async for frame in connection:
            self.got.append(str(frame))
            if '"Authorize"' in str(frame):
                # What a charger that left had sent before is read all the same.
                with suppress(ConnectionClosed):
                    await connection.send('[3,"a",{"idTagInfo":{"status":"Accepted"}}]')


async def follow(pages: httpx.AsyncClient, pairing_id: str, open_: asyncio.Event) -> float:
    """Read a page's stream to its end; when it ended."""
    async with pages.stream("GET", f"/api/pairings/{pairing_id}/events", timeout=30) as stream:
        assert stream.status_code == 200
        async for _ in stream.aiter_raw():
            open_.set()
    return time.monotonic()


async def tap_on(here: Preauth, stopping: Process, answered: list[str], number: int) -> None:
    """Card after card through the hook, until nobody listens any more."""
    for turn in range(10_000):
        card = f"04B{number}{turn:04}"
        try:
            await stopping.tap(here.body(card, "CP-8"))
        except (httpx.HTTPError, ConnectionError):
            return
        answered.append(card)


async def test_a_stop_in_the_middle_of_everything(
    database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an open call, an open page and a crowd of taps, the process ends within its grace, and all is written.

    The page is let go at once and not after its own time; what was read of the charger is passed on; each tap that was
    answered is in the journal with its answer, SteVe's beside it, and has its event.
    """
    monkeypatch.setenv("EXPRESSYNC_STOP_GRACE_S", str(GRACE_S))
    steve, answered = Steve(), list[str]()
    async with (
        peer(steve) as url,
        running(database, tmp_path / "here", serve="pages") as here,
        process("hook,gateway,pages", database.url("preauth"), tmp_path, STEVE_OCPP_URL=url) as stopping,
        charger_socket(stopping.ocpp_url, "CP-9") as socket,
    ):
        made = await here.done(EnrolKiosk(kiosk_name="hall", charge_box_ids=[CP]))
        key = await here.drivers.kiosks.exchange(made["code"])
        stopping.http.cookies.set(KIOSK_COOKIE, key or "", domain="127.0.0.1")
        armed: dict[str, Any] = (await stopping.http.post("/api/pairings", json={"charge_box_id": CP})).json()
        opened = asyncio.Event()
        page = asyncio.create_task(follow(stopping.http, armed["pairing_id"], opened))
        await opened.wait()
        crowd = [asyncio.create_task(tap_on(here, stopping, answered, number)) for number in range(4)]
        for frame in (UNANSWERED, *BEHIND):
            await socket.send(frame)
        await until(lambda: len(answered) > 50)
        assert await stopping.tap(here.body(CARD, CP)) == "BLOCKED"
        await socket.send('[2,"a","Authorize",{"idTag":"04C1"}]')
        assert await socket.recv() == '[3,"a",{"idTagInfo":{"status":"Accepted"}}]'
        at = time.monotonic()
        stopping.process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(stopping.process.wait, 30) == 0
        assert time.monotonic() - at < GRACE_S
        assert await page - at < 2
        await asyncio.gather(*crowd)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1012
        assert [frame for frame in steve.got if "Authorize" not in frame] == [UNANSWERED, *BEHIND]
        taps = here.rows("SELECT id_tag, told, steve_answer FROM tap")
        assert {tap["id_tag"] for tap in taps} >= {CARD, "04C1", *answered}
        assert [tap["id_tag"] for tap in taps if tap["told"] is None] == []
        assert [tap["steve_answer"] for tap in taps if tap["id_tag"] == "04C1"] == ["Accepted"]
        assert here.rows("SELECT state FROM pairing") == [{"state": "intercepted"}]
        assert here.rows("SELECT FROM charger WHERE charge_box_id = 'CP-9' AND disconnected_at IS NOT NULL") != []
        assert len(here.events("tap.decided")) == len(taps)


async def test_taps_read_during_a_stop_are_journalled(database: TestDatabase, tmp_path: Path) -> None:
    """Behind a tap that the database holds up, a stop asks about no other; each passes, and each is in the journal."""
    steve = Steve()
    frames = [
        '[2,"1","Authorize",{"idTag":"04A1"}]',
        '[2,"2","StartTransaction",{"connectorId":1,"idTag":"04A2","meterStart":5,"timestamp":"2026-05-01T10:00:00Z"}]',
        '[2,"3","Authorize",{"idTag":"04A3"}]',
    ]
    more: dict[str, Any] = {"decide_within_ms": 4500, "answer_within_ms": 4900, "stop_grace_s": 4}
    async with (
        peer(steve) as url,
        running(database, tmp_path, steve_ocpp_url=url, ocpp_port=0, ocpp_deadline_ms=5000, **more) as here,
    ):
        gateway = next(part for part in here.service.parts if isinstance(part, Gateway))
        async with (
            charger_socket(f"ws://127.0.0.1:{gateway.port}/ocpp", "CP-9") as socket,
            locked(database, b"preauth.tap"),
        ):
            for frame in frames:
                await socket.send(frame)
            (tunnel,) = gateway.tunnels()
            await until(lambda: len(tunnel._held or ()) == 2)
            # At once, as the end of a stop does: the database would soon give the first one up by itself.
            tunnel.leave()
            await until(lambda: steve.got == frames)
    async with running(database, tmp_path) as after:
        await after.until("SELECT FROM tap HAVING count(*) >= 3")
        taps = after.rows("SELECT id_tag, kind, told FROM tap ORDER BY id_tag")
        assert [(tap["id_tag"], tap["kind"], tap["told"]) for tap in taps] == [
            ("04A1", "authorize", "passed"),
            ("04A2", "start", "passed"),
            ("04A3", "authorize", "passed"),
        ]
