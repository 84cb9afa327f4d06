"""What preauth makes of sync's events: groups and open sessions at a tap, and what chargers did with a Blocked."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.preauth.decision.projections import remote_start_asked
from shared.contracts.event import Envelope, Event
from shared.contracts.events.sync import (
    CardChanged,
    CardDiscovered,
    CardParentChanged,
    ChargerOperationFinished,
    ChargerOperationRequested,
    TransactionStarted,
    TransactionStopped,
)
from shared.contracts.identity import IdTag
from shared.contracts.requests.preauth import ArmPairing, GetInterception, SearchTaps, SwitchInterception
from tests.integration.services.preauth.sync_double import SyncDouble
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


async def discovered(preauth: Preauth, card: str, parent: str | None) -> None:
    event = CardDiscovered(id_tag=card, ocpp_tag_pk=1, parent_id_tag=parent, blocked=False, expiry=None)
    await happen(preauth, event)


async def reason(preauth: Preauth, card: str) -> str:
    found = preauth.rows("SELECT reason FROM tap WHERE id_tag = %s ORDER BY received_at DESC LIMIT 1", card)
    return str(found[0]["reason"])


async def test_a_tap_of_the_charging_card_means_stop(preauth: Preauth) -> None:
    """A card that charges here, or one of its group, is not taken as a scan; a stranger is, and so it is elsewhere."""
    await discovered(preauth, "04A1", "meta")
    await discovered(preauth, "04A2", "META")
    await discovered(preauth, "04B1", "other")
    started = await session(preauth, 1, "04A1")
    await arm(preauth)
    for card, why in (("04a1", "stops_own_session"), ("04A2", "stops_group_session"), ("META", "stops_group_session")):
        assert await preauth.tap(card, CP) is None
        assert await reason(preauth, card.upper()) == why
    await arm(preauth, "elsewhere")
    assert await preauth.tap("04A1", "elsewhere") == "BLOCKED"
    await stop(preauth, started, energy_wh=500, after_s=60)
    assert await preauth.tap("04A2", CP) == "BLOCKED"


async def test_a_stranger_is_scanned_while_another_card_charges(preauth: Preauth) -> None:
    """An open session of an unrelated card hinders no scan, nor does one that has been open for more than a day."""
    await discovered(preauth, "04A1", None)
    await discovered(preauth, "04B1", None)
    await session(preauth, 2, "04B1")
    preauth.clock.ahead += timedelta(days=1, seconds=60)
    await session(preauth, 1, "04A1")
    await arm(preauth)
    assert await preauth.tap("04B1", CP) == "BLOCKED"


@pytest.mark.parametrize("year", [2000, 2099])
async def test_a_charger_whose_clock_is_wrong_has_sessions_all_the_same(preauth: Preauth, year: int) -> None:
    """Whatever year its charger thinks it is: the charging card's tap means stop, until the session is over."""
    started = await session_at(preauth, 1, "04A1", datetime(year, 1, 1, tzinfo=UTC))
    await arm(preauth)
    assert await preauth.tap("04A1", CP, connector=1) is None
    assert await reason(preauth, "04A1") == "stops_own_session"
    await stop(preauth, started, energy_wh=10, after_s=60)
    assert await preauth.tap("04A1", CP, connector=2) == "BLOCKED"


async def test_old_news_about_a_card_is_ignored(preauth: Preauth) -> None:
    """Events of a card that arrive out of order leave the newest parent."""
    await discovered(preauth, "04A1", "META")

    def moved(parent: str | None) -> CardChanged:
        return CardChanged(
            id_tag="04A1", change_id=uuid4(), before={"parent_id_tag": "META"}, after={"parent_id_tag": parent}
        )

    await happen(preauth, moved(None), version=3)
    await happen(preauth, moved("OLD"), version=2)
    assert preauth.rows("SELECT parent_id_tag FROM card") == [{"parent_id_tag": None}]


async def test_a_parent_set_by_this_house_counts_at_the_next_tap(preauth: Preauth) -> None:
    """A card is put under another one: from then on it is of that group, and no longer of the one before."""
    await discovered(preauth, "04A1", "META")
    await discovered(preauth, "04B1", "OTHER")
    await session(preauth, 1, "04A1")
    await arm(preauth)
    moved = CardParentChanged(id_tag="04B1", change_id=uuid4(), before="OTHER", after="meta")
    await happen(preauth, moved, version=2)
    assert await preauth.tap("04B1", CP) is None
    assert await reason(preauth, "04B1") == "stops_group_session"
    back = CardParentChanged(id_tag="04B1", change_id=uuid4(), before="META", after=None)
    await happen(preauth, back, version=3)
    assert await preauth.tap("04B1", CP) == "BLOCKED"


async def test_an_id_that_comes_again_is_another_session(preauth: Preauth) -> None:
    """SteVe was installed anew and counts from 1 again: the new session of that number is open, not the old one."""
    old = await session(preauth, 1, "04A1", ago_s=3600)
    await stop(preauth, old, energy_wh=10, after_s=60)
    await session(preauth, 1, "04A1")
    await arm(preauth)
    assert await preauth.tap("04A1", CP) is None
    assert await reason(preauth, "04A1") == "stops_own_session"
    await happen(preauth, old)
    assert await preauth.tap("04A1", CP, connector=1) is None
    # The old one never stopped, as far as anybody knows; its number is now another card's.
    await session(preauth, 2, "04C1", ago_s=3600)
    await session(preauth, 2, "04D1")
    assert await preauth.tap("04D1", CP) is None
    # A station whose clock was ahead then: what it says of the old one does not make that the later one.
    await session(preauth, 3, "04E1", ago_s=-3600)
    await session(preauth, 3, "04F1")
    assert await preauth.tap("04F1", CP) is None
    assert await preauth.tap("04C1", CP) == "BLOCKED"


async def test_a_stop_that_overtakes_its_start_leaves_nothing_open(preauth: Preauth) -> None:
    """Redelivered or reordered, a session that has ended is not open."""
    started = await session(preauth, 1, "04A1")
    preauth.run("DELETE FROM open_session")
    await stop(preauth, started, energy_wh=10, after_s=30)
    await happen(preauth, started)
    assert preauth.rows("SELECT 1 FROM open_session WHERE stopped_at IS NULL") == []


async def test_a_remote_start_is_no_tap(preauth: Preauth) -> None:
    """An Authorize that follows a remote start with its card is let through; another card is scanned."""
    await arm(preauth)
    async with preauth.service.database.write() as tx:
        at = preauth.clock()
        await remote_start_asked(tx, charge_box_id=CP, id_tag=IdTag("04A1"), at=at, remote_start_id=uuid4())
    assert await preauth.tap("04A1", CP) is None
    assert await reason(preauth, "04A1") == "remote_start_pending"
    assert await preauth.tap("04B2", CP) == "BLOCKED"


def operation(name: str, **parameters: object) -> ChargerOperationRequested:
    return ChargerOperationRequested(operation_id=uuid4(), charge_box_id=CP, operation=name, parameters=parameters)


async def operated(preauth: Preauth, name: str, **parameters: object) -> None:
    await happen(preauth, operation(name, **parameters))


async def test_a_remote_start_of_this_house_is_no_tap(preauth: Preauth) -> None:
    """Sync asks SteVe for a start with a card: its Authorize is let through, though no gateway saw the start pass."""
    await arm(preauth)
    await operated(preauth, "RemoteStartTransaction", idTag="04a1", connectorId=1)
    await operated(preauth, "RemoteStartTransaction", idTag=None)
    await operated(preauth, "UnlockConnector", connectorId=1)
    assert await preauth.tap("04A1", CP) is None
    assert await reason(preauth, "04A1") == "remote_start_pending"
    assert await preauth.tap("04B2", CP) == "BLOCKED"
    assert len(preauth.rows("SELECT FROM remote_start")) == 1


async def test_a_remote_start_of_this_house_counts_at_once(preauth: Preauth) -> None:
    """Sync's clock is ahead of the house's time: the Authorize that follows its remote start logs nobody in."""
    await arm(preauth)
    await happen(preauth, operation("RemoteStartTransaction", idTag="04A1"), ahead=timedelta(seconds=30))
    assert await preauth.tap("04A1", CP) is None
    assert await reason(preauth, "04A1") == "remote_start_pending"


@pytest.mark.parametrize("told_late", [False, True])
async def test_a_remote_start_of_this_house_that_was_refused_is_none(
    preauth: Preauth,
    told_late: bool,  # noqa: FBT001
) -> None:
    """The charger was not there, or refused, whichever of the two is heard of first: its driver's card is scanned, and
    nothing explains a session that follows. One that nobody answered may still be carried out.
    """
    cards = {"rejected": "04A1", "not_connected": "04A2", "failed": "04A3", "unknown": "04A4"}
    for outcome, card in cards.items():
        asked = operation("RemoteStartTransaction", idTag=card)
        finished = ChargerOperationFinished(
            operation_id=asked.operation_id,
            charge_box_id=CP,
            operation=asked.operation,
            outcome=outcome,
            problem=None,
        )
        for event in (finished, asked) if told_late else (asked, finished):
            await happen(preauth, event)
    for outcome, card in cards.items():
        await arm(preauth)
        assert await preauth.tap(card, CP) == (None if outcome == "unknown" else "BLOCKED")
        await preauth.until("SELECT FROM tap WHERE id_tag = %s AND told IS NOT NULL", card)
    assert await reason(preauth, "04A4") == "remote_start_pending"
    # Those that were scanned, and were not to be: nothing but the charger explains it.
    preauth.run("INSERT INTO charger (charge_box_id, first_seen_at, last_seen_at) VALUES (%s, now(), now())", CP)
    started = await session(preauth, 1, "04A1")
    await stop(preauth, started, energy_wh=700, after_s=20)
    await judge(preauth)
    assert preauth.rows("SELECT FROM override_outcome WHERE outcome = 'ignored'")


async def test_a_remote_start_of_this_house_explains_the_session(preauth: Preauth) -> None:
    """Told Blocked, and then an operator starts a session with the same card: the charger ignored nothing."""
    await intercepted(preauth)
    await operated(preauth, "RemoteStartTransaction", idTag="04A1")
    started = await session(preauth, 1, "04A1")
    await stop(preauth, started, energy_wh=700, after_s=20)
    await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == [{"outcome": "explained"}]
    assert preauth.events("scan.interception_ignored") == []


async def test_the_kill_switch_lets_every_tap_charge(preauth: Preauth) -> None:
    """Switched off everywhere or here, nothing is intercepted, also no repeat; switched on again, scans work."""
    await arm(preauth)
    off = await preauth.done(SwitchInterception(on=False, why="test"))
    assert off == {"everywhere": False, "off_at": [], "qr_is_strong": False}
    assert await preauth.done(GetInterception()) == off
    assert await preauth.tap("04A1", CP) is None
    assert await reason(preauth, "04A1") == "switched_off"
    refused = await preauth.ask(ArmPairing(charge_box_id="another", purpose="link_card"))
    assert refused.problem is not None
    assert (refused.problem.status, refused.problem.code) == (409, "interception_off")
    await preauth.done(SwitchInterception(on=True))
    assert (await preauth.done(SwitchInterception(on=False, charge_box_id=CP)))["off_at"] == [CP]
    assert await preauth.tap("04A1", CP) is None
    await preauth.done(SwitchInterception(on=False, charge_box_id=CP))
    await preauth.done(SwitchInterception(on=True, charge_box_id=CP))
    assert await preauth.tap("04A1", CP) == "BLOCKED"
    assert [event["data"]["on"] for event in preauth.events("interception.switched")] == [False, True, False, True]


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


@pytest.mark.parametrize("flowed", [True, False])
async def test_a_charger_that_charges_all_the_same_is_found_out(
    preauth: Preauth,
    sync: SyncDouble,
    flowed: bool,  # noqa: FBT001
) -> None:
    """Told Blocked, and it charged: an event, once, and the charger does not honour the override."""
    await intercepted(preauth)
    started = await session(preauth, 1, "04A1")
    if flowed:
        await stop(preauth, started, energy_wh=700, after_s=20)
    else:
        preauth.clock.ahead += timedelta(seconds=95)
        sync.steve_at = preauth.clock()
    long_without_outage(preauth)
    rows = await preauth.until("SELECT honours_override FROM charger WHERE honours_override <> 'unknown'", within_s=12)
    assert rows == [{"honours_override": "no"}]
    [event] = preauth.events("scan.interception_ignored")
    assert event["data"]["transaction_id"] == 1


async def test_a_charger_that_obeys_honours_the_override(preauth: Preauth) -> None:
    """Told Blocked, and no session, or one that ended at once without energy: it honours the override."""
    await intercepted(preauth)
    started = await session(preauth, 1, "04A1")
    await stop(preauth, started, energy_wh=0, after_s=2)
    preauth.clock.ahead += timedelta(seconds=181)
    await judge(preauth)
    rows = preauth.rows("SELECT honours_override FROM charger")
    assert rows == [{"honours_override": "yes"}]
    assert preauth.events("scan.interception_ignored") == []


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


async def test_silence_is_honour_only_where_sync_sees(preauth: Preauth, sync: SyncDouble) -> None:
    """That no session is known says something once sync has asked SteVe since, and nothing while it cannot."""
    await intercepted(preauth)
    told_at = preauth.clock()
    preauth.clock.ahead += timedelta(minutes=5)
    for silent, steve_at in ((True, None), (False, None), (False, told_at + timedelta(seconds=100))):
        sync.silent, sync.steve_at = silent, steve_at
        await judge(preauth)
        assert preauth.rows("SELECT FROM override_outcome") == []
    sync.steve_at = preauth.clock()
    await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == [{"outcome": "honoured"}]
    assert preauth.rows("SELECT honours_override FROM charger") == [{"honours_override": "yes"}]


async def test_a_session_whose_end_is_not_known_yet_proves_nothing(preauth: Preauth, sync: SyncDouble) -> None:
    """Sync told of the start and went away: the session is not taken for open, and its end at once is honour."""
    await intercepted(preauth)
    started = await session(preauth, 1, "04A1")
    preauth.clock.ahead += timedelta(minutes=5)
    for silent, steve_at in ((True, None), (False, None), (False, started.started_at + timedelta(seconds=50))):
        sync.silent, sync.steve_at = silent, steve_at
        await judge(preauth)
        assert preauth.rows("SELECT FROM override_outcome") == []
    await stop(preauth, started, energy_wh=0, after_s=2)
    await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == [{"outcome": "honoured"}]
    assert preauth.events("scan.interception_ignored") == []


async def test_a_session_that_is_known_late_overturns_the_silence(preauth: Preauth, sync: SyncDouble) -> None:
    """Found honoured for want of a session: once one is known that followed the tap, the charger ignored it; once."""
    await intercepted(preauth)
    preauth.clock.ahead += timedelta(minutes=5)
    sync.steve_at = preauth.clock()
    await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == [{"outcome": "honoured"}]
    started = await session(preauth, 1, "04A1", ago_s=290)
    await stop(preauth, started, energy_wh=700, after_s=200)
    await judge(preauth)
    await judge(preauth)
    assert preauth.rows("SELECT outcome, transaction_id FROM override_outcome") == [
        {"outcome": "ignored", "transaction_id": 1}
    ]
    assert preauth.rows("SELECT honours_override FROM charger") == [{"honours_override": "no"}]
    assert preauth.rows("SELECT override_outcome FROM tap") == [{"override_outcome": "ignored"}]
    assert len(preauth.events("scan.interception_ignored")) == 1


async def scanned(preauth: Preauth, sync: SyncDouble, pk: int, *, energy_wh: int | None) -> str:
    """A scan at an hour of its own, and what is known of the charger then. Without energy, no session followed."""
    preauth.clock.ahead += timedelta(hours=1)
    await intercepted(preauth, f"04B{pk}")
    if energy_wh is not None:
        await stop(preauth, await session(preauth, pk, f"04B{pk}"), energy_wh=energy_wh, after_s=20)
    preauth.clock.ahead += timedelta(minutes=5)
    sync.steve_at = preauth.clock()
    await judge(preauth)
    [row] = preauth.rows("SELECT honours_override FROM charger")
    return str(row["honours_override"])


async def test_silence_makes_no_proof_undone(preauth: Preauth, sync: SyncDouble) -> None:
    """That no session followed a scan, where perhaps no cable was in, does not undo that the charger once ignored one;
    a session that it ended at once does, and so does the silence of another firmware.
    """
    assert await scanned(preauth, sync, 1, energy_wh=None) == "yes"
    preauth.run("UPDATE charger SET firmware_version = '1', boot_at = %s", preauth.clock())
    assert await scanned(preauth, sync, 2, energy_wh=700) == "no"
    assert await scanned(preauth, sync, 3, energy_wh=None) == "no"
    assert await scanned(preauth, sync, 4, energy_wh=0) == "yes"
    assert await scanned(preauth, sync, 5, energy_wh=700) == "no"
    # It comes up again, and with the next firmware later; a scan of before is judged by that time.
    preauth.run("UPDATE charger SET firmware_version = '2', boot_at = %s", preauth.clock() + timedelta(minutes=90))
    assert await scanned(preauth, sync, 6, energy_wh=None) == "no"
    assert await scanned(preauth, sync, 7, energy_wh=None) == "yes"
    assert await scanned(preauth, sync, 8, energy_wh=700) == "no"
    assert await scanned(preauth, sync, 9, energy_wh=None) == "no"
    # It ignored one, and was updated before that is known: of which firmware the proof is, nobody can say any more.
    preauth.clock.ahead += timedelta(hours=1)
    await intercepted(preauth, "04C1")
    at = preauth.clock()
    preauth.run("UPDATE charger SET firmware_version = '3', boot_at = %s", at + timedelta(seconds=60))
    await stop(preauth, await session_at(preauth, 10, "04C1", at), energy_wh=700, after_s=20)
    preauth.clock.ahead += timedelta(minutes=5)
    await judge(preauth)
    assert preauth.rows("SELECT honours_override, override_proven_of FROM charger") == [
        {"honours_override": "no", "override_proven_of": None}
    ]
    # All that is known is that it came up after the proof: silence since then undoes it.
    assert await scanned(preauth, sync, 11, energy_wh=None) == "yes"


async def test_of_two_proofs_the_later_tap_counts(preauth: Preauth, sync: SyncDouble) -> None:
    """What a charger did with an earlier scan is known after what it did with a later one: it says nothing new."""
    await intercepted(preauth, "04C1")
    earlier_at = preauth.clock()
    assert await scanned(preauth, sync, 2, energy_wh=0) == "yes"
    started = await session_at(preauth, 3, "04C1", earlier_at)
    await stop(preauth, started, energy_wh=700, after_s=60)
    await judge(preauth)
    assert preauth.rows("SELECT FROM override_outcome WHERE outcome = 'ignored'")
    assert preauth.rows("SELECT honours_override FROM charger") == [{"honours_override": "yes"}]


async def test_a_card_that_was_let_through_later_explains_the_session(preauth: Preauth) -> None:
    """After the scan the card charges here, as it should: nobody ignored anything."""
    await intercepted(preauth)
    preauth.clock.ahead += timedelta(seconds=12)
    assert await preauth.tap("04A1", CP) is None
    await preauth.until("SELECT 1 FROM tap WHERE told = 'passed'")
    await session(preauth, 1, "04A1")
    preauth.clock.ahead += timedelta(seconds=120)
    await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == [{"outcome": "explained"}]
    assert preauth.events("scan.interception_ignored") == []
    page = await preauth.done(SearchTaps(charge_box_id=CP))
    assert [tap["session"] for tap in page["taps"]] == ["steve:1", None]
    assert [tap["session_outcome"] for tap in page["taps"]] == ["began", "unknown"]
    assert [tap["override_outcome"] for tap in page["taps"]] == [None, "explained"]


async def test_a_later_tap_whose_answer_was_never_recorded_explains_the_session_too(preauth: Preauth) -> None:
    """Its process died with the answer: most likely the card was let through, so nobody is accused."""
    await intercepted(preauth)
    preauth.clock.ahead += timedelta(seconds=12)
    assert await preauth.tap("04A1", CP) is None
    await preauth.until("SELECT FROM tap WHERE told = 'passed'")
    preauth.run("UPDATE tap SET told = 'unknown' WHERE told = 'passed'")
    await stop(preauth, await session(preauth, 1, "04A1"), energy_wh=700, after_s=20)
    await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == [{"outcome": "explained"}]


async def test_a_session_is_put_beside_its_tap_whatever_the_clocks_say(preauth: Preauth) -> None:
    """Its station thinks that it is the year 2000, and sync's clock is an hour ahead."""
    assert await preauth.tap("04A1", CP) is None
    await preauth.until("SELECT FROM tap WHERE told = 'passed'")
    at = datetime(2000, 1, 1, tzinfo=UTC)
    event = TransactionStarted(
        session="steve:1", charge_box_id=CP, id_tag="04A1", connector_id=1, started_at=at, start_wh=1000
    )
    await happen(preauth, event, ahead=timedelta(hours=1))
    assert preauth.rows("SELECT session FROM tap") == [{"session": "steve:1"}]


async def test_a_start_that_passes_after_the_blocked_explains_nothing(preauth: Preauth) -> None:
    """A charger that goes on to start, and tells so a little later, ignored its Blocked: no card was presented anew."""
    await intercepted(preauth)
    preauth.clock.ahead += timedelta(seconds=12)
    assert await preauth.tap("04A1", CP, start=True) is None
    await preauth.until("SELECT 1 FROM tap WHERE told = 'passed'")
    started = await session(preauth, 1, "04A1")
    await stop(preauth, started, energy_wh=700, after_s=20)
    await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == [{"outcome": "ignored"}]
    assert len(preauth.events("scan.interception_ignored")) == 1


@pytest.mark.parametrize(("verdict", "outcome"), [("Accepted", "explained"), ("Blocked", "ignored")])
async def test_a_card_that_steve_refused_later_was_not_let_through(
    preauth: Preauth, verdict: str, outcome: str
) -> None:
    """After the scan the card comes again and passes us, but whether it may charge is SteVe's to say."""
    await intercepted(preauth)
    preauth.clock.ahead += timedelta(seconds=12)
    assert await preauth.tap("04A1", CP) is None
    await preauth.until("SELECT FROM tap WHERE told = 'passed'")
    preauth.run("UPDATE tap SET steve_answer = %s WHERE told = 'passed'", verdict)
    started = await session(preauth, 1, "04A1")
    await stop(preauth, started, energy_wh=700, after_s=20)
    await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == [{"outcome": outcome}]


async def look(preauth: Preauth) -> None:
    """Ask once, here and now, how far sync sees."""
    every = next(part for part in preauth.service.parts if part.name == "evidence.sight")
    await every._job()  # type: ignore[attr-defined]


async def test_a_tap_that_no_session_followed_says_so(preauth: Preauth, sync: SyncDouble) -> None:
    """A tap that passed has no session once the driver's time is over, as far as sync has asked SteVe since; what is
    known so stays known while sync is away again, and before that nobody knows.
    """
    assert await preauth.tap("04A1", CP) is None
    assert await preauth.tap("04A1", CP, start=True) is None
    await preauth.until("SELECT 1 FROM tap WHERE told = 'passed' HAVING count(*) = 2")

    async def outcomes() -> list[str]:
        return [tap["session_outcome"] for tap in (await preauth.done(SearchTaps()))["taps"]]

    assert await outcomes() == ["unknown", "unknown"]
    tapped_at = preauth.clock()
    preauth.clock.ahead += timedelta(seconds=301)
    sync.steve_at = preauth.clock()
    await look(preauth)
    assert await outcomes() == ["unknown", "unknown"]
    preauth.clock.ahead += timedelta(hours=1)
    for silent, steve_at in ((True, None), (False, None), (False, tapped_at + timedelta(seconds=325))):
        sync.silent, sync.steve_at = silent, steve_at
        await look(preauth)
        assert await outcomes() == ["unknown", "unknown"]
    sync.steve_at = preauth.clock()
    for sync.silent in (False, True):
        await look(preauth)
        assert await outcomes() == ["none", "none"]
    sync.silent, sync.steve_at = False, tapped_at
    await look(preauth)
    assert await outcomes() == ["none", "none"]
    at = preauth.clock()
    # Written by a clock that was ahead: it says nothing, and is written anew.
    preauth.run("UPDATE snapshot SET taken_at = %s WHERE what = 'what sessions did'", at + timedelta(days=1))
    await look(preauth)
    assert await outcomes() == ["unknown", "unknown"]
    preauth.clock.ahead -= timedelta(hours=1)
    await session(preauth, 1, "04A1", ago_s=300)
    assert await outcomes() == ["began", "began"]


async def test_what_a_charger_did_outlives_the_judgement(preauth: Preauth, sync: SyncDouble) -> None:
    """That a charger ignored Blocked is still in the journal when the judgements' own table has forgotten it."""
    await intercepted(preauth)
    await session(preauth, 1, "04A1")
    preauth.clock.ahead += timedelta(seconds=95)
    sync.steve_at = preauth.clock()
    await judge(preauth)
    preauth.run("DELETE FROM preauth.override_outcome")
    [tap] = (await preauth.done(SearchTaps(told="blocked", reason="matched")))["taps"]
    assert tap["override_outcome"] == "ignored"
    assert (await preauth.done(SearchTaps(told="passed")))["taps"] == []


async def test_gaps_in_the_journal_are_told_where_they_belong(preauth: Preauth) -> None:
    """Each page tells of the gaps that ended in its time, and no two pages of the same."""
    for n in range(3):
        assert await preauth.tap(f"04A{n}", CP) is None
        preauth.run(
            "INSERT INTO preauth.journal_gap SELECT gen_random_uuid(), now(), now(), %s, 'The spool was full.'", n + 1
        )
    first = await preauth.done(SearchTaps(limit=2))
    rest = await preauth.done(SearchTaps(limit=2, cursor=first["next_cursor"]))
    assert [[gap["taps"] for gap in page["gaps"]] for page in (first, rest)] == [[3, 2], [1]]
    nothing = await preauth.done(SearchTaps(until=preauth.clock() - timedelta(hours=1)))
    assert (nothing["taps"], nothing["gaps"]) == ([], [])


async def test_an_unusual_rate_is_told_once(preauth: Preauth) -> None:
    """A charger that suddenly takes many scans is told of, once."""
    for n in range(6):
        await arm(preauth)
        assert await preauth.tap(f"04A{n}", CP) == "BLOCKED"
        await preauth.until("SELECT 1 FROM pairing WHERE state = 'intercepted' AND id_tag = %s", f"04A{n}")
    watch = next(part for part in preauth.service.parts if part.name == "evidence.rates")._job  # type: ignore[attr-defined]
    await watch()
    await watch()
    [event] = preauth.events("interception.rate_unusual")
    assert event["data"]["intercepted"] == 6
    # By a clock that was ahead.
    preauth.run("UPDATE rate_told SET told_at = now() + interval '2 hours'")
    await watch()
    assert len(preauth.events("interception.rate_unusual")) == 2
