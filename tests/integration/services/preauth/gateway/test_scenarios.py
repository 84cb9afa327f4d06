"""The scenarios of the facts (hook), through the gateway: real chargers, SteVe as it is, a whole preauth."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from ocpp.v16 import call

from deploy.demo.chargers.charger import Charger
from deploy.demo.chargers.settings import ChargerSettings
from deploy.demo.chargers.wire import NoAnswerError
from deploy.demo.steve.settings import HookSettings, SteveSettings
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from services.preauth.gateway.server import Gateway
from shared.contracts.requests.preauth import ArmPairing, CancelPairing
from tests.databases import TestDatabase, fresh_database
from tests.infra import Infra
from tests.integration.services.preauth.world import KEY, Preauth, running


def url_of(preauth: Preauth) -> str:
    gateway = next(part for part in preauth.service.parts if isinstance(part, Gateway))
    return f"ws://127.0.0.1:{gateway.port}/ocpp"


@dataclass
class World:
    """One SteVe, two replicas of preauth, and chargers at one or the other."""

    steve: SteveSimulator
    one: Preauth
    two: Preauth

    @asynccontextmanager
    async def charger(self, name: str = "CP-1", *, at: Preauth | None = None, **more: Any) -> AsyncIterator[Charger]:  # noqa: ANN401
        settings = ChargerSettings(
            ocpp_url=url_of(at or self.one), charge_box_id=name, answer_timeout_s=5, reconnect=False, **more
        )
        async with Charger(settings) as charger:
            yield charger

    async def arm(self, charger: str = "CP-1", *, at: Preauth | None = None, **more: Any) -> str:  # noqa: ANN401
        pairing = await (at or self.two).done(ArmPairing(charge_box_id=charger, purpose="find_card", **more))
        return str(pairing["pairing_id"])

    async def blocked(self, charger: Charger, id_tag: str) -> str:
        """Arm and present the card, which is told Blocked; the pairing that took it."""
        pairing_id = await self.arm(charger.charge_box_id)
        assert (await charger.authorize(id_tag))[0] == "Blocked"
        return pairing_id

    def reasons(self, id_tag: str) -> list[str]:
        """Why the Authorizes of this card were decided as they were, oldest first."""
        sql = "SELECT reason FROM tap WHERE id_tag = %s AND kind = 'authorize' ORDER BY received_at"
        return [row["reason"] for row in self.one.rows(sql, id_tag)]


@asynccontextmanager
async def world(database: TestDatabase, folder: Path, *, patched: bool = False, **more: Any) -> AsyncIterator[World]:  # noqa: ANN401
    """`patched`: SteVe also calls the hook of the first replica."""
    async with run_steve(SteveSettings(auth_delay_ms=0)) as steve:
        for name in ("CP-1", "CP-2"):
            steve.state.add_charger(name)
        for name in ("CARD", "OTHER"):
            steve.state.add_tag(name)
        steve.state.add_tag("BLOCKED", limit=0)
        # As with the decision's own deadlines: what is tested is the order of things, not a busy machine's speed.
        more = {"steve_ocpp_url": steve.ocpp_url, "ocpp_port": 0, "ocpp_deadline_ms": 3500, **more}
        async with (
            running(database, folder / "one", **more) as one,
            running(database, folder / "two", **more) as two,
        ):
            if not patched:
                yield World(steve, one, two)
                return
            hook = HookSettings(url=f"{one.http.base_url}/api/ocpp/pre-authorize", key=KEY)
            async with run_steve(SteveSettings(auth_delay_ms=0, hook=hook)) as patched_steve:
                patched_steve.state.add_charger("CP-1")
                patched_steve.state.add_tag("CARD")
                async with running(
                    database, folder / "three", **{**more, "steve_ocpp_url": patched_steve.ocpp_url}
                ) as three:
                    yield World(patched_steve, three, two)


@pytest.fixture
async def here(database: TestDatabase, tmp_path: Path) -> AsyncIterator[World]:
    async with world(database, tmp_path) as one:
        yield one


async def test_nothing_armed_charges(here: World) -> None:
    """Without an armed pairing a card charges, and the tap is in the journal with SteVe's answer."""
    async with here.charger() as charger:
        assert (await charger.tap(1, "CARD")).charging
    assert here.reasons("CARD") == ["nothing_armed"]
    await here.one.until("SELECT FROM tap WHERE id_tag = 'CARD' AND kind = 'start'")


async def test_armed_elsewhere_charges(here: World) -> None:
    """A pairing armed at one charger does not touch another; two armed at once are independent."""
    async with here.charger("CP-1") as first, here.charger("CP-2", at=here.two) as second:
        await here.arm("CP-1")
        assert (await second.tap(1, "OTHER")).charging
        await here.blocked(second, "CARD")
        assert here.one.rows("SELECT FROM pairing WHERE charge_box_id = 'CP-1' AND state = 'armed'")
        assert (await first.authorize("CARD"))[0] == "Blocked"


@pytest.mark.parametrize("card", ["NOBODY", "BLOCKED", " card "])
async def test_any_card_is_taken(here: World, card: str) -> None:
    """An unknown or blocked card, however it is spelled, is taken as a scan; without one SteVe's verdict stands."""
    async with here.charger() as charger:
        await here.blocked(charger, card)
        await here.one.until("SELECT FROM outbox WHERE routing_key = 'scan.intercepted'")
        verdicts = {"NOBODY": "Invalid", "BLOCKED": "Blocked", " card ": "Accepted"}
        other = {"NOBODY": "NOBODY2", "BLOCKED": "BLOCKED", " card ": "OTHER"}[card]
        assert (await charger.authorize(other))[0] == verdicts[card]
    (scan,) = here.one.events("scan.intercepted")
    assert scan["data"]["id_tag"] == card.strip().upper()


async def test_same_card_again_is_blocked_again_with_one_event(here: World) -> None:
    """A driver who taps twice is told Blocked twice, and one scan happened."""
    async with here.charger() as charger:
        await here.blocked(charger, "CARD")
        await here.one.until("SELECT FROM pairing WHERE state = 'intercepted'")
        assert (await charger.authorize("CARD"))[0] == "Blocked"
        assert here.reasons("CARD") == ["matched", "repeated"]
    assert len(here.one.events("scan.intercepted")) == 1


async def test_another_card_after_the_match_charges(here: World) -> None:
    """The pairing is used up by the first card; the next card charges."""
    async with here.charger() as charger:
        await here.blocked(charger, "CARD")
        assert (await charger.tap(1, "OTHER")).charging
    assert here.reasons("OTHER") == ["other_card_matched"]


async def test_expired_and_cancelled_pairings_let_pass(here: World) -> None:
    """After the window, or after a cancel, the card charges."""
    async with here.charger() as charger:
        pairing_id = await here.arm()
        await here.two.done(CancelPairing(pairing_id=pairing_id))
        assert (await charger.authorize("CARD"))[0] == "Accepted"
        await here.arm(window_s=10)
        here.one.run(
            "UPDATE preauth.pairing SET armed_at = armed_at - interval '20 s', expires_at = now() - interval '1 s'"
        )
        assert (await charger.authorize("CARD"))[0] == "Accepted"
    assert here.reasons("CARD") == ["cancelled", "expired"]


async def test_tap_that_arrives_only_as_a_start_charges(here: World) -> None:
    """A StartTransaction always reaches SteVe, also while a pairing is armed: its id is SteVe's. The pairing stays."""
    async with here.charger() as charger:
        await here.arm()
        assert (await charger.tap(1, "CARD", start_only=True)).charging
        await here.one.until("SELECT FROM tap WHERE kind = 'start' AND told = 'passed'")
    assert here.one.rows("SELECT FROM pairing WHERE state = 'armed'")
    assert len(here.steve.state.transactions) == 1


async def test_card_that_stops_its_own_session_is_no_scan(here: World) -> None:
    """While a card charges here, its Authorize means stop: it passes although a pairing is armed."""
    async with here.charger() as charger:
        assert (await charger.tap(1, "CARD")).charging
        await here.one.until("SELECT FROM open_session WHERE stopped_at IS NULL")
        await here.arm()
        assert (await charger.authorize("CARD"))[0] == "Accepted"
        assert here.reasons("CARD") == ["nothing_armed", "stops_own_session"]
    assert here.one.rows("SELECT FROM pairing WHERE state = 'armed'")


async def test_remote_start_while_armed_charges(here: World) -> None:
    """A RemoteStart's own Authorize passes, starts the session, and leaves the pairing for the next card."""
    async with here.charger() as charger:
        await here.arm()
        told = await here.steve.stations.call("CP-1", "RemoteStartTransaction", {"idTag": "CARD", "connectorId": 1})
        assert told["status"] == "Accepted"
        deadline = time.monotonic() + 5
        while not here.steve.state.transactions:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        assert charger.charge_box_id == "CP-1"
        await here.one.until("SELECT FROM remote_start")
    assert here.one.rows("SELECT FROM pairing WHERE state = 'armed'")
    assert here.reasons("CARD") == ["remote_start_pending"]


async def test_hook_and_gateway_see_one_tap(database: TestDatabase, tmp_path: Path) -> None:
    """A patched SteVe behind the gateway calls the hook for the same tap: one journal row, one answer."""
    async with world(database, tmp_path, patched=True) as here, here.charger() as charger:
        assert (await charger.authorize("CARD"))[0] == "Accepted"
        await here.blocked(charger, "CARD")
        await here.one.until("SELECT FROM tap WHERE also_via = 'hook'")
        (blocked,) = await here.one.until("SELECT via FROM tap WHERE told = 'blocked'")
        assert blocked["via"] == "gateway"


async def test_pairing_armed_on_one_replica_is_found_by_the_other(here: World) -> None:
    """The replica that the charger is connected to need not be the one that armed."""
    for at in (here.one, here.two):
        async with here.charger(at=at) as charger:
            await here.blocked(charger, f"NEW-{uuid4().hex[:8]}")


async def test_card_whose_line_was_cut_while_it_waited_is_decided_again(here: World) -> None:
    """SteVe's socket breaks while a tap is being decided: the row is closed as unknown, the next tap is not held up."""
    async with here.charger() as charger:
        await here.arm()
        with psycopg.connect(here.one.database.admin_url) as blocker:
            blocker.execute("LOCK TABLE preauth.tap IN SHARE MODE")
            asking = asyncio.create_task(charger.ask(call.Authorize(id_tag="CARD")))
            await here.one.until("SELECT FROM pg_locks WHERE NOT granted AND relation = 'preauth.tap'::regclass")
            here.steve.stations._sockets["CP-1"][-1].connection.transport.abort()
            with pytest.raises(NoAnswerError):
                await asking
    await here.one.until("SELECT FROM tap WHERE told = 'unknown'")
    await here.one.until("SELECT FROM pairing WHERE state = 'void'")
    async with here.charger() as charger:
        started = time.monotonic()
        assert (await charger.authorize("CARD"))[0] == "Accepted"
        assert time.monotonic() - started < 2
    assert here.reasons("CARD") == ["matched", "already_scanned"]


async def test_database_that_is_away_lets_taps_pass_in_time(tmp_path: Path, own_infra: Infra) -> None:
    """With PostgreSQL frozen or gone every card gets SteVe's answer within the deadline, on the same connection."""
    with fresh_database(own_infra.postgres.url, ["preauth"]) as database:
        short: dict[str, Any] = {"decide_within_ms": 100, "answer_within_ms": 150, "ocpp_deadline_ms": 200}
        async with world(database, tmp_path, **short) as here, here.charger() as charger:
            await here.arm()
            await asyncio.to_thread(own_infra.postgres.freeze)
            try:
                for _ in range(5):
                    started = time.monotonic()
                    assert (await charger.authorize("CARD"))[0] == "Accepted"
                    # The gateway's deadline, and what two busy cores add to it.
                    assert time.monotonic() - started < 0.6
                assert (await charger.ask(call.Heartbeat())).current_time
            finally:
                await asyncio.to_thread(own_infra.postgres.thaw)
            await here.one.until("SELECT FROM tap WHERE id_tag = 'CARD' HAVING count(*) = 5", within_s=20)
