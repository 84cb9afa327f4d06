"""The scenarios of the facts (hook), with real OCPP clients: through the hook, through the gateway, through both."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from msgspec.structs import replace
from ocpp.v16 import call

from deploy.demo.chargers.charger import Charger
from deploy.demo.chargers.wire import NoAnswerError
from services.preauth.chargers.cache import CacheCleaner
from services.preauth.decision.tap import Decision, Tap
from shared.contracts.requests.preauth import ArmPairing, SwitchInterception
from tests.databases import locked
from tests.integration.services.preauth.gateway.support import until
from tests.integration.services.preauth.scenarios.conftest import BOTH, GATEWAY, HOOK
from tests.integration.services.preauth.scenarios.site import WITHIN_S, Kiosk, Site


async def scanned(site: Site, kiosk: Kiosk, charger: Charger, card: str) -> str:
    """Arm at the kiosk and present the card, which is told Blocked; the pairing, whose page has heard of it."""
    pairing_id = await kiosk.arm(charger.charge_box_id)
    assert (await charger.tap(1, card)).authorize == "Blocked"
    await kiosk.notified(pairing_id, "intercepted")
    return pairing_id


async def test_nothing_armed_charges(site: Site, charger_id: str, card: str) -> None:
    """Nothing armed: Accepted, it charges, and each tap is one row in the journal, whatever it passed on its way."""
    async with site.charger(charger_id) as charger:
        tap = await charger.tap(1, card)
    assert (tap.authorize, tap.charging) == ("Accepted", True)
    [authorize], [start] = await site.taps(charger_id), await site.taps(charger_id, "start")
    assert (authorize["told"], authorize["reason"], start["told"]) == ("passed", "nothing_armed", "passed")
    for one in (authorize, start):
        assert one["via"] == ("gateway" if site.way.gateway else "hook")
        assert one["also_via"] == ("hook" if site.way == BOTH else None)
    if site.way.gateway:
        [row] = await site.one.until(
            "SELECT steve_answer FROM tap WHERE charge_box_id = %s AND kind = 'authorize' AND steve_answer <> ''",
            charger_id,
        )
        assert row["steve_answer"] == "Accepted"


async def test_an_internal_error_of_steve_is_seen_where_its_answer_passes(
    site: Site, charger_id: str, card: str
) -> None:
    """A card that is fine on SteVe's record is told Invalid: the gateway notes that, the hook is told of no answer."""
    site.steve.faults.set("internal_error", path="ocpp:Authorize", times=1)
    async with site.charger(charger_id) as charger:
        assert (await charger.tap(1, card)).authorize == "Invalid"
    assert site.sessions(charger_id) == 0
    [tap] = await site.taps(charger_id)
    assert (tap["told"], tap["reason"]) == ("passed", "nothing_armed")
    if site.way.gateway:
        sql = "SELECT steve_answer FROM tap WHERE charge_box_id = %s AND steve_answer <> ''"
        [row] = await site.one.until(sql, charger_id)
        assert row["steve_answer"] == "Invalid"
    else:
        assert tap["steve_answer"] is None


async def test_armed_is_blocked_and_the_page_logs_in(site: Site, charger_id: str, card: str) -> None:
    """Armed: Blocked, no session, the page that waits is told, and one login comes of it, wherever it is asked."""
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        pairing_id = await kiosk.arm(charger_id)
        waiting = asyncio.create_task(kiosk.notified(pairing_id, "intercepted"))
        tap = await charger.tap(1, f" {card.lower()} ")
        assert (tap.authorize, tap.charging) == ("Blocked", False)
        stages = [stage for _, stage in await waiting]
        # A page that is late for the first stages hears only where it has got to.
        assert stages[-1] == "intercepted"
        assert card not in (await kiosk.browser.get(kiosk.url(f"/api/pairings/{pairing_id}"))).text
        logins = [await kiosk.log_in(pairing_id, at=replica) for replica in (*site.replicas, site.one)]
    assert {login.status_code for login in logins} == {200}
    assert (site.logins(pairing_id), site.sessions(charger_id)) == (1, 0)
    [event] = site.events("scan.intercepted", pairing_id)
    assert (event["data"]["id_tag"], event["data"]["via"]) == (card, "gateway" if site.way.gateway else "hook")
    assert len(site.events("scan.login_succeeded", pairing_id)) == 1
    [told] = [one for one in await site.taps(charger_id) if one["told"] == "blocked"]
    assert (told["pairing_id"], told["in_time"]) == (pairing_id, True)


async def test_a_charger_that_was_told_blocked_forgets_it(
    site: Site, charger_id: str, card: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the Blocked, never before it, the charger is asked once to clear its cache; a tap that passes asks none."""
    other, pause_s = site.new_charger(), 0.6
    for replica in site.replicas:
        [cleaner] = [part for part in replica.service.parts if isinstance(part, CacheCleaner)]
        monkeypatch.setattr(cleaner, "_pause_s", pause_s)
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger, site.charger(other) as passing:
        assert (await passing.tap(1, site.new_card())).charging
        pairing_id = await kiosk.arm(charger_id)
        assert (await charger.tap(1, card)).authorize == "Blocked"
        assert site.sync.operated(charger_id, "ClearCache") == []
        await kiosk.notified(pairing_id, "intercepted")
        await until(lambda: site.sync.operated(charger_id, "ClearCache") != [])
        # One that came after this one has been asked meanwhile, if any had to be.
        await asyncio.sleep(pause_s + 0.5)
    assert len(site.sync.operated(charger_id, "ClearCache")) == 1
    assert site.sync.operated(other, "ClearCache") == []


async def test_armed_at_one_charger_and_tapped_at_another(site: Site, card: str) -> None:
    """Armed on A, tapped on B: it charges there, nobody is logged in, and A goes on waiting."""
    here, there = site.new_charger(), site.new_charger()
    async with site.kiosk(here, there) as kiosk, site.charger(there) as charger:
        pairing_id = await kiosk.arm(here)
        assert (await charger.tap(1, card)).charging
        assert (await kiosk.log_in(pairing_id)).json()["code"] == "not_scanned"
    assert await site.reasons(there) == ["nothing_armed"]
    assert site.state(pairing_id) == "armed"


async def test_two_armed_chargers_are_independent(site: Site) -> None:
    """Each takes its own card, at the same moment, and each page its own login."""
    names, cards = (site.new_charger(), site.new_charger()), (site.new_card(), site.new_card())
    async with site.kiosk(*names) as kiosk, site.charger(names[0]) as one, site.charger(names[1]) as two:
        pairings = [await kiosk.arm(name) for name in names]
        taps = await asyncio.gather(one.tap(1, cards[0]), two.tap(2, cards[1]))
        assert [tap.authorize for tap in taps] == ["Blocked", "Blocked"]
        for pairing_id in pairings:
            await kiosk.notified(pairing_id, "intercepted")
            assert (await kiosk.log_in(pairing_id)).status_code == 200
    told = [site.events("scan.intercepted", one)[0]["data"] for one in pairings]
    assert [(one["charge_box_id"], one["id_tag"]) for one in told] == list(zip(names, cards, strict=True))


@pytest.mark.parametrize("blocked", [False, True], ids=["unknown", "blocked"])
async def test_a_card_that_steve_refuses(site: Site, charger_id: str, blocked: bool) -> None:  # noqa: FBT001
    """Unknown stays Invalid and blocked stays Blocked; the scan is told all the same, and no such card logs in."""
    verdict = "Blocked" if blocked else "Invalid"
    card = site.new_card(known=blocked, blocked=blocked)
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        assert (await charger.tap(1, card)).authorize == verdict
        pairing_id = await kiosk.arm(charger_id)
        # SteVe applies the override only over an Accepted; a gateway answers before SteVe is asked.
        assert (await charger.tap(1, card)).authorize == ("Blocked" if site.way.gateway else verdict)
        await kiosk.notified(pairing_id, "intercepted")
        refused = await kiosk.log_in(pairing_id)
    assert (refused.status_code, refused.json()["code"]) == (403, "login_refused")
    assert len(site.events("scan.intercepted", pairing_id)) == 1
    [event] = site.events("scan.login_refused", pairing_id)
    assert event["data"]["reason"] == ("blocked" if blocked else "unknown_card")
    assert site.logins(pairing_id) == 0


async def test_an_expired_pairing_lets_pass(site: Site, charger_id: str, card: str) -> None:
    """After the window the card charges, and the page is told that nothing came."""
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        pairing_id = await kiosk.arm(charger_id)
        site.one.run(
            "UPDATE pairing SET armed_at = armed_at - interval '91 s', expires_at = expires_at - interval '91 s'"
            " WHERE pairing_id = %s",
            UUID(pairing_id),
        )
        assert (await charger.tap(1, card)).charging
        await kiosk.notified(pairing_id, "expired")
        assert (await kiosk.log_in(pairing_id)).json()["code"] == "scan_over"
    assert await site.reasons(charger_id) == ["expired"]


async def test_a_cancelled_pairing_lets_pass(site: Site, charger_id: str, card: str) -> None:
    """A driver who changed their mind charges, and the page gets no login."""
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        pairing_id = await kiosk.arm(charger_id)
        await kiosk.cancel(pairing_id)
        assert (await charger.tap(1, card)).charging
        assert (await kiosk.log_in(pairing_id)).json()["code"] == "scan_over"
    assert await site.reasons(charger_id) == ["cancelled"]


async def test_the_same_card_twice_is_blocked_twice_and_one_event(site: Site, charger_id: str, card: str) -> None:
    """A driver who taps again is told Blocked again, also when the charger has come back elsewhere meanwhile."""
    async with site.kiosk(charger_id) as kiosk:
        async with site.charger(charger_id) as charger:
            pairing_id = await scanned(site, kiosk, charger, card)
            assert (await charger.tap(1, card)).authorize == "Blocked"
        async with site.charger(charger_id) as charger:
            assert (await charger.tap(1, card)).authorize == "Blocked"
        assert (await kiosk.log_in(pairing_id)).status_code == 200
    assert await site.reasons(charger_id) == ["matched", "repeated", "repeated"]
    assert len(site.events("scan.intercepted", pairing_id)) == 1
    assert site.logins(pairing_id) == 1


async def test_a_blocked_that_would_be_late_is_void(
    site: Site, charger_id: str, card: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decided Blocked, and no time left to say so: it charges, and event, journal, page and login all say the same."""
    for replica in site.replicas:
        decider = replica.taps.decider

        async def late(tap: Tap, decide: Callable[[Tap], Awaitable[Decision]] = decider.decide) -> Decision:
            decision = await decide(tap)
            # As if the call had come in long before.
            return replace(decision, tap=replace(tap, arrived=tap.arrived - WITHIN_S))

        monkeypatch.setattr(decider, "decide", late)
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        pairing_id = await kiosk.arm(charger_id)
        waiting = asyncio.create_task(kiosk.notified(pairing_id, "void"))
        assert (await charger.tap(1, card)).authorize == "Accepted"
        await waiting
        assert (await kiosk.log_in(pairing_id)).json()["code"] == "scan_over"
    [row] = await site.taps(charger_id)
    assert (row["reason"], row["told"], row["in_time"]) == ("matched", "passed", False)
    # The start that followed speaks of the scan, too.
    [told] = [one for one in site.events("tap.decided", pairing_id) if one["data"]["kind"] == "authorize"]
    assert (told["data"]["told"], told["data"]["in_time"]) == ("passed", False)
    assert (site.events("scan.intercepted", pairing_id), site.logins(pairing_id)) == ([], 0)


async def test_another_card_after_the_match_charges(site: Site, charger_id: str, card: str) -> None:
    """The pairing is used up by the first card: the next one charges, and the login stays the first one's."""
    other = site.new_card()
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        pairing_id = await scanned(site, kiosk, charger, card)
        assert (await charger.tap(1, other)).charging
        assert (await kiosk.log_in(pairing_id)).status_code == 200
    assert await site.reasons(charger_id) == ["matched", "other_card_matched"]
    [event] = site.events("scan.login_succeeded", pairing_id)
    assert event["data"]["id_tag"] == card


async def test_a_tap_that_arrives_only_as_a_start_charges(site: Site, charger_id: str, card: str) -> None:
    """A charger that starts without asking is not intercepted: SteVe would have a session all the same."""
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        pairing_id = await kiosk.arm(charger_id)
        assert (await charger.tap(1, card, start_only=True)).charging
    assert [one["told"] for one in await site.taps(charger_id, "start")] == ["passed"]
    assert (site.state(pairing_id), site.sessions(charger_id)) == ("armed", 1)


async def test_a_start_at_the_other_connector_charges(site: Site, charger_id: str, card: str) -> None:
    """Armed for a connector, the start that names another one is none of its business."""
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        pairing_id = await kiosk.arm(charger_id, connector_id=1)
        assert (await charger.tap(2, card, start_only=True)).charging
    expected = "not_answered_here" if site.way.gateway else "other_connector"
    assert await site.reasons(charger_id, "start") == [expected]
    assert site.state(pairing_id) == "armed"


async def test_an_authorize_says_no_connector(site: Site, charger_id: str, card: str) -> None:
    """OCPP 1.6 has no connector in an Authorize: a card at the other one is taken, and the tap's row says why."""
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        pairing_id = await kiosk.arm(charger_id, connector_id=1)
        assert (await charger.tap(2, card)).authorize == "Blocked"
        await kiosk.notified(pairing_id, "intercepted")
    [tap] = await site.taps(charger_id)
    assert tap["connector_id"] is None
    assert "does not say at which connector" in tap["explanation"]


async def test_a_remote_start_while_armed(site: Site, charger_id: str, card: str) -> None:
    """A remote start is let through where the gateway sees it; the hook alone cannot, and the tap's row says so."""
    settings = site.steve.settings
    configuration = {"AuthorizeRemoteTxRequests": "true"}
    async with (
        site.kiosk(charger_id) as kiosk,
        site.charger(charger_id, configuration=configuration) as charger,
        httpx.AsyncClient(auth=(settings.user, settings.password), trust_env=False) as rest,
    ):
        pairing_id = await kiosk.arm(charger_id)
        answer = await rest.post(
            f"{site.steve.rest_url}/steve/api/v1/operations/RemoteStartTransaction",
            json={"chargeBoxIdList": [charger_id], "idTag": card, "connectorId": 1},
        )
        assert answer.status_code == 200, answer.text
        if site.way.gateway:
            await site.one.until("SELECT FROM tap WHERE kind = 'start' AND charge_box_id = %s", charger_id)
            assert charger.connectors[1].session is not None
        else:
            await kiosk.notified(pairing_id, "intercepted")
    [tap] = await site.taps(charger_id)
    if site.way.gateway:
        assert (tap["told"], tap["reason"]) == ("passed", "remote_start_pending")
        assert site.state(pairing_id) == "armed"
    else:
        assert tap["told"] == "blocked"
        assert "remote start" in tap["explanation"]


@pytest.mark.parametrize("site", [GATEWAY, BOTH], indirect=True, ids=str)
async def test_a_remote_start_that_the_charger_refused(site: Site, charger_id: str, card: str) -> None:
    """A charger that is busy refuses the start: the card, presented there afterwards, is taken as a scan."""
    settings = site.steve.settings
    async with (
        site.kiosk(charger_id) as kiosk,
        site.charger(charger_id) as charger,
        httpx.AsyncClient(auth=(settings.user, settings.password), trust_env=False) as rest,
    ):
        for connector in charger.connectors:
            assert (await charger.tap(connector, site.new_card())).charging
        pairing_id = await kiosk.arm(charger_id)
        answer = await rest.post(
            f"{site.steve.rest_url}/steve/api/v1/operations/RemoteStartTransaction",
            json={"chargeBoxIdList": [charger_id], "idTag": card, "connectorId": 1},
        )
        assert "Rejected" in answer.text
        # What passed is written a moment later.
        await asyncio.sleep(0.5)
        assert (await charger.authorize(card))[0] == "Blocked"
        await kiosk.notified(pairing_id, "intercepted")
    assert (await site.reasons(charger_id))[-1] == "matched"
    assert site.one.rows("SELECT FROM remote_start WHERE charge_box_id = %s", charger_id) == []


@pytest.mark.parametrize("site", [GATEWAY, BOTH], indirect=True, ids=str)
async def test_a_card_that_stops_its_own_session_is_no_scan(site: Site, charger_id: str, card: str) -> None:
    """While a card charges here, its Authorize means stop: it passes although a pairing is armed.

    Through the hook alone sessions are known from sync's events, which is tested with the evidence.
    """
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        assert (await charger.tap(1, card)).charging
        await site.one.until("SELECT FROM open_session WHERE charge_box_id = %s", charger_id)
        pairing_id = await kiosk.arm(charger_id)
        assert (await charger.authorize(card))[0] != "Blocked"
    assert (await site.reasons(charger_id))[-1] == "stops_own_session"
    assert site.state(pairing_id) == "armed"


# The beginning of the statement by which taps are decided, and what was told before is written.
DECIDES = "position('WITH told AS' IN query) > 0"


@pytest.mark.parametrize("site", [GATEWAY, BOTH], indirect=True, ids=str)
async def test_a_line_that_is_cut_while_a_card_is_decided(site: Site, charger_id: str, card: str) -> None:
    """SteVe's socket breaks while a tap waits: its row is closed as unknown, and the next tap is not held up."""
    async with site.kiosk(charger_id) as kiosk:
        async with site.charger(charger_id) as charger:
            pairing_id = await kiosk.arm(charger_id)
            async with locked(site.one.database, b"preauth.tap"):
                asking = asyncio.create_task(charger.ask(call.Authorize(id_tag=card)))
                # Others wait for the table as well: those who sweep and judge.
                await site.one.until(f"SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND {DECIDES}")
                site.steve.stations._sockets[charger_id][-1].connection.transport.abort()
                with pytest.raises(NoAnswerError):
                    await asking
        await kiosk.notified(pairing_id, "void")
    async with site.charger(charger_id) as charger:
        told, took_ms = await charger.authorize(card)
    assert (told, took_ms < 2000) == ("Accepted", True)
    assert [(tap["reason"], tap["told"]) for tap in await site.taps(charger_id)] == [
        ("matched", "unknown"),
        ("scan_void", "passed"),
    ]


@pytest.mark.parametrize("site", [HOOK, BOTH], indirect=True, ids=str)
async def test_a_replayed_hook_call_changes_nothing(site: Site, charger_id: str, card: str) -> None:
    """Who sends SteVe's call again, to any replica, gets the same answer, and there is no other tap, scan or login."""
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        # Under both, the call for a card that the gateway intercepted never comes: this one passed.
        pairing_id = None if site.way == BOTH else await scanned(site, kiosk, charger, card)
        if pairing_id is None:
            assert (await charger.authorize(card))[0] == "Accepted"
        seen = site.front.calls[-1]
        before = [(tap["tap_id"], tap["told"]) for tap in await site.taps(charger_id)]
        if pairing_id is None:
            pairing_id = await kiosk.arm(charger_id)
        answers = [await site.front.forward(seen) for _ in range(4)]
        expected = b'{"override":null}' if site.way == BOTH else b'{"override":"BLOCKED"}'
        assert [(one.status_code, one.body) for one in answers] == [(200, expected)] * 4
        assert [(tap["tap_id"], tap["told"]) for tap in await site.taps(charger_id)] == before
        assert len(site.events("scan.intercepted", pairing_id)) == (site.way != BOTH)


async def test_a_charger_keeps_a_blocked_no_longer_than_it_is_told(site: Site, charger_id: str, card: str) -> None:
    """Behind the gateway Blocked comes with a short expiry; behind the hook alone it is SteVe's hour."""
    keeps: dict[str, Any] = {"refuses_from_cache": True, "configuration": {"AuthorizationCacheEnabled": "true"}}
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id, **keeps) as charger:
        await scanned(site, kiosk, charger, card)
        kept = await charger.tap(1, card)
        assert (kept.authorize, kept.unasked, kept.charging) == ("Blocked", True, False)
        known = charger.cards._cache[card].expires_at
    assert known is not None
    left = known - site.one.clock()
    assert left < timedelta(seconds=60) if site.way.gateway else left > timedelta(minutes=30)


async def test_a_page_that_reconnects_after_the_match_logs_in(site: Site, charger_id: str, card: str) -> None:
    """The page lost its connection before the tap: it resumes where it was, at any replica, and completes the login."""
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        pairing_id = await kiosk.arm(charger_id)
        [(last, _)] = await kiosk.notified(pairing_id, "armed")
        assert (await charger.tap(1, card)).authorize == "Blocked"
        await site.one.until("SELECT FROM pairing WHERE pairing_id = %s AND state = 'intercepted'", UUID(pairing_id))
        assert [stage for _, stage in await kiosk.notified(pairing_id, "intercepted", last=last, at=site.one)] == [
            "intercepted"
        ]
        # Once more, this time after the news: nothing is told twice, and the login is still there.
        assert (await kiosk.log_in(pairing_id, at=site.one)).status_code == 200
        [(_, stage)] = await kiosk.notified(pairing_id, "consumed", last="3")
        assert stage == "consumed"
    assert site.logins(pairing_id) == 1


async def test_two_arms_race_and_one_page_wins(site: Site, charger_id: str, card: str) -> None:
    """Two browsers arm the same charger at the same moment, at different replicas: one waits, the other is refused."""
    async with (
        site.kiosk(charger_id) as one,
        site.kiosk(charger_id) as two,
        site.charger(charger_id) as charger,
    ):
        answers = await asyncio.gather(
            *(kiosk.post_arm(charger_id, at=at) for kiosk, at in ((one, site.replicas[0]), (two, site.replicas[-1])))
        )
        assert sorted(answer.status_code for answer in answers) == [201, 409]
        won, lost = (one, two) if answers[0].status_code == 201 else (two, one)
        pairing_id = next(answer for answer in answers if answer.status_code == 201).json()["pairing_id"]
        assert (await charger.tap(1, card)).authorize == "Blocked"
        await won.notified(pairing_id, "intercepted")
        assert (await lost.log_in(pairing_id)).status_code == 404
        assert (await won.log_in(pairing_id)).status_code == 200
    assert site.logins(pairing_id) == 1


@pytest.mark.parametrize("ahead_s", [-60, 60, -400, 400])
async def test_steves_clock_is_off(site: Site, charger_id: str, card: str, ahead_s: int) -> None:
    """A minute off is no matter. A hook call that is many minutes off could be a replay: it charges, and says so."""
    site.steve_clock.ahead = timedelta(seconds=ahead_s)
    try:
        async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
            pairing_id = await kiosk.arm(charger_id)
            tap = await charger.tap(1, card)
    finally:
        site.steve_clock.ahead = timedelta()
    # The gateway goes by its own clock.
    stale = abs(ahead_s) > 300 and not site.way.gateway
    assert tap.charging == stale
    assert await site.reasons(charger_id) == ["stale" if stale else "matched"]
    assert site.state(pairing_id) == ("armed" if stale else "intercepted")


async def test_the_chargers_clock_is_off(site: Site, charger_id: str, card: str) -> None:
    """What a charger thinks the time is changes nothing."""

    def hours_ago() -> object:
        return site.one.clock() - timedelta(hours=7)

    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id, clock=hours_ago) as charger:
        pairing_id = await scanned(site, kiosk, charger, card)
        assert (await charger.ask(call.Heartbeat())).current_time
    assert len(site.events("scan.intercepted", pairing_id)) == 1


async def test_interception_switched_off_charges(site: Site, charger_id: str, card: str) -> None:
    """The kill switch, thrown after a scan was armed, holds at once for every replica."""
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        await kiosk.arm(charger_id)
        await site.one.done(SwitchInterception(on=False, charge_box_id=charger_id, why="test"))
        assert (await charger.tap(1, card)).charging
    assert await site.reasons(charger_id) == ["switched_off"]


async def test_an_operators_scan_is_told_and_logs_nobody_in(site: Site, charger_id: str, card: str) -> None:
    """Armed by an operator to find a card: Blocked, one event, and no browser can make a login of it."""
    armed = await site.replicas[-1].done(ArmPairing(charge_box_id=charger_id, purpose="find_card"))
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        assert (await charger.tap(1, card)).authorize == "Blocked"
        pairing_id = str(armed["pairing_id"])
        await site.one.until("SELECT FROM pairing WHERE pairing_id = %s AND state = 'intercepted'", UUID(pairing_id))
        assert (await kiosk.log_in(pairing_id)).status_code == 404
    assert len(site.events("scan.intercepted", pairing_id)) == 1
