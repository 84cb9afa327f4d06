"""A site: SteVe, replicas of preauth, chargers that speak OCPP, and kiosks; connected the way that is under test."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from deploy.demo.chargers.charger import Charger
from deploy.demo.chargers.settings import ChargerSettings
from deploy.demo.steve.settings import HookSettings, SteveSettings
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from services.preauth.gateway.server import Gateway
from services.preauth.login.browser import KIOSK_COOKIE
from shared.contracts.requests.preauth import EnrolKiosk, SearchTaps
from shared.web.server import HttpServer, bind
from tests.databases import TestDatabase
from tests.integration.services.preauth.scenarios.front import Front
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import KEY, MovableClock, Preauth, running

HOOK_PATH = "/api/ocpp/pre-authorize"
# Behind it a failing test would hang; nothing here needs a tenth of it.
WITHIN_S = 10.0


@dataclass(frozen=True)
class Way:
    """How taps reach preauth: a patched SteVe calls the hook, the gateway sees them pass, or both."""

    name: str
    hook: bool
    gateway: bool
    replicas: int

    def __str__(self) -> str:
        return f"{self.name}, {'two replicas' if self.replicas == 2 else 'one replica'}"


def way(name: str, replicas: int) -> Way:
    return Way(name, hook=name != "gateway", gateway=name != "hook", replicas=replicas)


@dataclass
class Kiosk:
    """A browser beside chargers, at the last replica unless a request says otherwise."""

    site: "Site"
    browser: httpx.AsyncClient

    def url(self, path: str, at: Preauth | None = None) -> str:
        return f"{(at or self.site.replicas[-1]).http.base_url}{path}"

    async def post_arm(self, charger: str, *, at: Preauth | None = None, **more: Any) -> httpx.Response:  # noqa: ANN401 - JSON
        return await self.browser.post(self.url("/api/pairings", at), json={"charge_box_id": charger, **more})

    async def arm(self, charger: str, **more: Any) -> str:  # noqa: ANN401 - JSON
        """Wait for a card at the charger; the pairing's id."""
        answer = await self.post_arm(charger, **more)
        assert answer.status_code == 201, answer.text
        pairing_id: str = answer.json()["pairing_id"]
        return pairing_id

    async def cancel(self, pairing_id: str) -> None:
        assert (await self.browser.delete(self.url(f"/api/pairings/{pairing_id}"))).status_code == 204

    async def log_in(self, pairing_id: str, *, at: Preauth | None = None) -> httpx.Response:
        return await self.browser.post(self.url(f"/api/pairings/{pairing_id}/login", at), json={})

    async def notified(
        self, pairing_id: str, stage: str, *, last: str | None = None, at: Preauth | None = None
    ) -> list[tuple[str, str]]:
        """Follow the page's stream, after event `last`, up to a stage; every (event id, stage) that came."""
        came: list[tuple[str, str]] = []
        headers = {} if last is None else {"Last-Event-ID": last}
        place = self.url(f"/api/pairings/{pairing_id}/events", at)
        async with (
            asyncio.timeout(WITHIN_S),
            self.browser.stream("GET", place, headers=headers, timeout=WITHIN_S) as stream,
        ):
            assert stream.status_code == 200
            event_id = ""
            async for line in stream.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    event_id = value
                elif name == "event":
                    came.append((event_id, value))
                if came and came[-1][1] == stage:
                    return came
        raise AssertionError(f"the stream ended after {came}")


@dataclass
class Site:
    way: Way
    steve: SteveSimulator
    steve_clock: MovableClock
    front: Front
    replicas: list[Preauth]
    sync: SyncDouble
    stack: AsyncExitStack
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def one(self) -> Preauth:
        return self.replicas[0]

    def new_charger(self) -> str:
        """A charger of this test alone. Wildcards, colons and slashes are characters like others."""
        name = f"CP:{next(self._numbers)}_%"
        self.steve.state.add_charger(name)
        return name

    def new_card(self, *, known: bool = True, blocked: bool = False) -> str:
        """A card of this test alone, which sync knows as SteVe does."""
        card = f"04CARD{next(self._numbers)}"
        if known:
            self.steve.state.add_tag(card, limit=0 if blocked else 1)
            self.sync.know(card, blocked=blocked)
        return card

    def ocpp_url(self) -> str:
        """Where the next charger connects: gateways take turns."""
        if not self.way.gateway:
            return self.steve.ocpp_url
        replica = self.replicas[next(self._numbers) % len(self.replicas)]
        gateway = next(part for part in replica.service.parts if isinstance(part, Gateway))
        return f"ws://127.0.0.1:{gateway.port}/ocpp"

    @asynccontextmanager
    async def charger(self, name: str, **more: Any) -> AsyncIterator[Charger]:  # noqa: ANN401 - settings
        settings = ChargerSettings(
            ocpp_url=self.ocpp_url(), charge_box_id=name, reconnect=False, answer_timeout_s=WITHIN_S, **more
        )
        async with Charger(settings) as charger:
            yield charger

    @asynccontextmanager
    async def kiosk(self, *chargers: str) -> AsyncIterator[Kiosk]:
        """A browser that an operator's code made a kiosk of these chargers."""
        made = await self.one.done(EnrolKiosk(kiosk_name="hall", charge_box_ids=list(chargers)))
        async with httpx.AsyncClient(trust_env=False, timeout=20) as browser:
            # Not at the page, which lets an address try only a few codes a minute.
            key = await self.one.drivers.kiosks.exchange(made["code"])
            browser.cookies.set(KIOSK_COOKIE, key or "", domain="127.0.0.1")
            yield Kiosk(self, browser)

    async def taps(self, charger: str, kind: str = "authorize") -> list[dict[str, Any]]:
        """The charger's taps as operators see them, oldest first, as soon as it is known what each was told."""
        where = "charge_box_id = %s AND kind = %s"
        await self.one.until(
            f"SELECT 1 WHERE NOT EXISTS (SELECT FROM tap WHERE {where} AND told IS NULL)", charger, kind
        )
        page = await self.one.done(SearchTaps(charge_box_id=charger))
        return [tap for tap in reversed(page["taps"]) if tap["kind"] == kind]

    async def reasons(self, charger: str, kind: str = "authorize") -> list[str]:
        return [tap["reason"] for tap in await self.taps(charger, kind)]

    def events(self, event_type: str, pairing_id: str) -> list[dict[str, Any]]:
        found = self.one.rows("SELECT body FROM outbox WHERE routing_key = %s ORDER BY id", event_type)
        events = [json.loads(row["body"]) for row in found]
        return [event for event in events if event["data"]["pairing_id"] == pairing_id]

    def logins(self, pairing_id: str) -> int:
        return len(self.one.rows("SELECT 1 FROM driver_session WHERE pairing_id = %s", pairing_id))

    def state(self, pairing_id: str) -> str:
        [row] = self.one.rows("SELECT state FROM pairing WHERE pairing_id = %s", pairing_id)
        return str(row["state"])

    def sessions(self, charger: str) -> int:
        """Transactions that SteVe has of the charger."""
        return sum(one.charge_box_id == charger for one in self.steve.state.transactions.values())


@asynccontextmanager
async def built(
    way: Way,
    database: TestDatabase,
    folder: Path,
    *,
    budget_ms: int = 4000,
    bus: bool = False,
    **more: Any,  # noqa: ANN401 - settings
) -> AsyncIterator[Site]:
    """`budget_ms`: how long SteVe waits for the hook. `more`: settings of every replica."""
    front, clock = Front(), MovableClock()
    listener = bind("127.0.0.1", 0, setting="the test's front")
    server = HttpServer("front", front, listener)
    async with AsyncExitStack() as stack:
        stop = asyncio.Event()
        serving = asyncio.create_task(server.run(stop))

        async def close() -> None:
            stop.set()
            await serving
            await front.close()

        stack.push_async_callback(close)
        hook = HookSettings(url=f"http://127.0.0.1:{server.port}{HOOK_PATH}", key=KEY, budget_ms=budget_ms)
        settings = SteveSettings(auth_delay_ms=0, clock=clock, hook=hook if way.hook else None)
        steve = await stack.enter_async_context(run_steve(settings))
        sync = SyncDouble()
        replicas = []
        for number in range(way.replicas):
            values: dict[str, Any] = {
                "steve_ocpp_url": steve.ocpp_url,
                "ocpp_port": 0,
                # As with the decision's own: what is tested is the order of things, not a busy machine's speed.
                "ocpp_deadline_ms": 3500,
                "cooldown_s": 0,
                **more,
            }
            replica = await stack.enter_async_context(running(database, folder / str(number), bus=bus, **values))
            if not bus:
                replica.service.requester.ask = sync.ask  # type: ignore[method-assign]
            replicas.append(replica)
        front.hooks = [f"{replica.http.base_url}{HOOK_PATH}" for replica in replicas]
        yield Site(way, steve, clock, front, replicas, sync, stack)
