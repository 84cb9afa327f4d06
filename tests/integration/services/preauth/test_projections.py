"""What preauth makes of sync's events at a tap: groups, open sessions and remote starts."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from services.preauth.decision.projections import remote_start_asked
from shared.contracts.events.sync import (
    CardChanged,
    CardDiscovered,
    CardParentChanged,
    ChargerOperationFinished,
    ChargerOperationRequested,
)
from shared.contracts.identity import IdTag
from shared.contracts.requests.preauth import ArmPairing, GetInterception, SwitchInterception
from tests.integration.services.preauth.happening import CP, arm, happen, intercepted, judge, session, session_at, stop
from tests.integration.services.preauth.world import Preauth


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
