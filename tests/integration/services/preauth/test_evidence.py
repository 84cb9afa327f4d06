"""What is judged of chargers that were told Blocked, and what followed a tap."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.contracts.events.sync import (
    TransactionStarted,
)
from shared.contracts.requests.preauth import SearchTaps
from tests.integration.services.preauth.happening import (
    CP,
    arm,
    happen,
    intercepted,
    judge,
    long_without_outage,
    session,
    session_at,
    stop,
)
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import Preauth


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
