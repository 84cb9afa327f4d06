"""The held queue: nothing is dropped, each has its reason and its way out."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.demo.lago import LagoSettings
from deploy.demo.lago.model import FinalPeriod
from deploy.demo.steve.model import Stop, StopActor
from services.sync.sessions.handlers import SessionUnknown
from services.sync.sessions.starts import keep_blocked, keep_verdict
from shared.contracts.problem import Invalid
from shared.contracts.request import Request
from shared.contracts.requests.sync import LinkCard
from shared.contracts.requests.sync_cards import ChangeCard, PreviewLink, RelinkCard
from shared.contracts.requests.sync_work import HeldChanged, HeldPage, IgnoreHeld, ReleaseHeld, RetryHeld, SearchHeld
from tests.integration.services.sync.conftest import ADA, LAGO_SEED, Build, World, ago

Command = Callable[..., Awaitable[HeldChanged]]


async def do(world: World, request: Request[Any]) -> HeldChanged:
    queue = world.rooms.held
    commands: dict[type, Command] = {
        RetryHeld: queue.retry_held,
        IgnoreHeld: queue.ignore_held,
        ReleaseHeld: queue.release_held,
    }
    async with world.service.database.write() as tx:
        return await commands[type(request)](tx, request, ADA)


async def held(world: World, **given: Any) -> HeldPage:  # noqa: ANN401
    return await world.rooms.held.search_held(SearchHeld(**given), ADA)


async def test_each_anomaly_is_held_and_nothing_else(world: World) -> None:
    """Each impossible session is held under its own name; the possible ones beside them are billed."""
    await world.link("A")
    clock = world.clock
    expected = {
        world.charge("A", 0, charge_box_id="B1").pk: "no_energy",
        world.charge("A", -500, charge_box_id="B2", start_wh=9_000, stop_wh=8_500).pk: "negative_energy",
        world.charge("A", 900_000, charge_box_id="B3").pk: "too_much_energy",
        world.charge("A", 1_000, charge_box_id="B4", start_at=ago(days=2), stop_at=ago(days=2, minutes=9)).pk: (
            "stop_before_start"
        ),
        world.charge(
            "A", 1_000, charge_box_id="B5", start_at=clock(), stop_at=clock() + timedelta(hours=2)
        ).pk: "in_future",
        world.charge("A", 1_000, charge_box_id="B6", stop_wh="full").pk: "meter_unreadable",
    }
    fine = [world.charge("A", 1_000, charge_box_id="B7").pk, world.charge("A", 2_000, charge_box_id="B8").pk]
    # The meter of B7 went back, B8 began at zero, though both had counted on.
    expected[world.charge("A", 1_000, charge_box_id="B7", start_wh=1_500).pk] = "meter_went_back"
    expected[world.charge("A", 1_000, charge_box_id="B8", start_wh=0).pk] = "start_at_zero"
    one = world.charge("A", 1_000, charge_box_id="B9", start_at=ago(hours=9), stop_at=ago(hours=8))
    two = world.charge("A", 1_000, charge_box_id="B9", start_at=ago(hours=8, minutes=30), stop_at=ago(hours=7))
    expected[one.pk] = expected[two.pk] = "overlapping"
    # One that lasts for a day, and one that begins long after it.
    one = world.charge("A", 1_000, charge_box_id="B11", start_at=ago(hours=26), stop_at=ago(hours=2))
    two = world.charge("A", 1_000, charge_box_id="B11", start_at=ago(hours=4), stop_at=ago(hours=3))
    expected[one.pk] = expected[two.pk] = "overlapping"
    expected[world.charge("A", None, charge_box_id="B10", start_at=ago(days=4)).pk] = "open_too_long"
    await world.turn()
    world.clock.advance(seconds=1)
    await world.rooms.poller.hold_stuck()
    await world.turn()
    rows = await world.rows("SELECT transaction_pk, billing, hold_reason FROM sync.session")
    found = {row.transaction_pk: row.hold_reason for row in rows if row.billing == "held"}
    assert found == expected
    assert {row.transaction_pk for row in rows if row.billing == "synced"} == set(fine)
    assert world.counted() == (3_000, 2)
    page = await held(world)
    assert all(one.remedy for one in page.held)


async def test_the_queue_shows_what_is_at_stake(build_world: Build) -> None:
    """Reason, age, kWh, and money where the plan has a price; the classes cover the whole queue, and add up what is in
    one currency.
    """
    plans = [*LAGO_SEED["plans"], {**LAGO_SEED["plans"][0], "code": "swiss", "currency": "CHF"}]
    ada, bob, *rest = LAGO_SEED["subscriptions"]
    seed = {**LAGO_SEED, "plans": plans, "subscriptions": [ada, {**bob, "plan_code": "swiss"}, *rest]}
    world = await build_world(lago=LagoSettings(seed=seed))
    await world.link("A")
    await world.link("B", "cus_bob", "sub_bob")
    # Lago is asked about a subscription when it is billed; what was held before has no price yet.
    world.charge("A", 500_000)
    await world.turn()
    [unpriced] = (await held(world)).held
    assert (unpriced.reason, unpriced.energy_wh, unpriced.amount_cents) == ("too_much_energy", 500_000, None)
    for card in ("A", "B"):
        world.charge(card, 1_000, charge_box_id=card)
    await world.turn()
    for card in ("A", "B"):
        world.charge(card, 300_000, charge_box_id=card)
    await world.turn()
    page = await held(world)
    [swiss] = (await held(world, id_tag="B")).held
    assert (swiss.energy_wh, swiss.amount_cents, swiss.currency) == (300_000, 12_000, "CHF")
    [impossible] = page.classes
    assert (impossible.count, impossible.energy_wh) == (3, 1_100_000)
    assert [(one.currency, one.cents) for one in impossible.amounts] == [("CHF", 12_000), ("EUR", 32_000)]


async def test_a_released_anomaly_is_billed(world: World) -> None:
    """What an operator lets pass is billed once, and told as released."""
    await world.link("A")
    pk = world.charge("A", 500_000).pk
    await world.turn()
    assert (await do(world, ReleaseHeld(sessions=[f"main:{pk}"]))).sessions == [f"main:{pk}"]
    await world.turn()
    assert world.counted() == (500_000, 1)
    [released] = await world.events("transaction.released")
    assert released.data["reason"] == "too_much_energy"


async def test_an_ignored_session_stays_unbilled(world: World) -> None:
    """Ignoring takes a note, and no later look brings the session back."""
    await world.link("A")
    pk = world.charge("A", 0).pk
    await world.turn()
    await do(world, IgnoreHeld(sessions=[f"main:{pk}"], note="tried the plug"))
    await world.turn()
    row = await world.session(pk)
    assert (row.billing, row.note) == ("ignored", "tried the plug")
    assert [one.type for one in await world.events("transaction.ignored")] == ["transaction.ignored"]


async def test_linking_a_card_releases_from_the_confirmed_date(world: World) -> None:
    """Sessions from before the link are billed to it only where an operator confirms the date from which."""
    world.steve.state.add_tag("NEW")
    old = world.charge("NEW", 1_000, start_at=ago(days=9)).pk
    recent = world.charge("NEW", 2_000, start_at=ago(days=3)).pk
    await world.turn()
    await world.link("NEW", valid_from=ago(hours=1))
    await world.turn()
    assert world.counted() == (0, 0)
    changed = await do(world, ReleaseHeld(id_tag="NEW", since=ago(days=4)))
    assert changed.sessions == [f"main:{recent}"]
    await world.turn()
    assert world.counted() == (2_000, 1)
    assert (await world.session(old)).hold_reason == "card_unlinked"


@pytest.mark.parametrize("how", ["card_unlinked", "card_unknown", "changed_stop", "stop"])
async def test_a_link_dated_back_bills_nothing_by_itself(world: World, how: str) -> None:
    """Whatever has the session decided again, a retry of all, its own next look, another stop or its only one: what
    began before its card was linked stays held until an operator confirms the date.
    """
    if how != "card_unknown":
        world.steve.state.add_tag("NEW")
    by_hand = StopActor.MANUAL if how == "changed_stop" else StopActor.STATION
    one = world.charge("NEW", None if how == "stop" else 1_000, start_at=ago(hours=3), stop_actor=by_hand)
    await world.turn()
    if how == "card_unknown":
        # Deleted in SteVe, or never there: it is looked at again by itself.
        assert (await world.session(one.pk)).hold_reason == "card_unknown"
    await world.link("NEW")
    if how in {"changed_stop", "stop"}:
        at, value = ago(hours=2), str(int(one.start_value) + 1_000)
        world.steve.state.add_stop(one.pk, Stop(at=at, value=value, reason="Local", actor=StopActor.STATION))
    world.clock.advance(minutes=6)
    await world.turn()
    await do(world, RetryHeld(everything=True))
    await world.turn()
    row = await world.session(one.pk)
    assert (row.billing, row.owner_subscription) == ("held", None)
    assert world.counted() == (0, 0)
    await do(world, ReleaseHeld(id_tag="NEW", since=ago(days=1)))
    await world.turn()
    assert world.counted() == (1_000, 1)


async def test_a_card_that_was_seen_late_is_made_up_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SteVe does not say what card it is when its session is read: billed by its parent's link when it does."""
    await world.link("TOP")
    world.steve.state.add_tag("CHILD", parent_id_tag="TOP")

    async def silent(_: object) -> None:
        pass

    with monkeypatch.context() as patched:
        patched.setattr(world.rooms.mirror, "fetch", silent)
        pk = world.charge("CHILD", 1_000).pk
        await world.rooms.poller.poll()
        await world.rooms.settler.settle()
    assert (await world.session(pk)).hold_reason == "card_unknown"
    world.clock.advance(minutes=6)
    await world.turn()
    assert (await world.session(pk)).owner_id_tag == "TOP"
    assert world.counted() == (1_000, 1)


async def test_linking_a_card_releases_its_held_sessions_from_the_confirmed_date(world: World) -> None:
    """In the link's own transaction: what began before the date stays held, also below a card of its own link; the
    preview counts exactly what is then released; without a date nothing is.
    """
    for id_tag, parent in (("NEW", None), ("CHILD", "NEW"), ("OWN", "NEW")):
        world.steve.state.add_tag(id_tag, parent_id_tag=parent)
    old = world.charge("NEW", 1_000, start_at=ago(days=9)).pk
    recent = world.charge("NEW", 2_000, start_at=ago(days=3)).pk
    child = world.charge("CHILD", 4_000, charge_box_id="CP-2", start_at=ago(days=3)).pk
    other = world.charge("OWN", 8_000, charge_box_id="CP-3", start_at=ago(days=3)).pk
    await world.turn()
    await world.link("OWN", "cus_bob", "sub_bob", valid_from=ago(hours=1))
    target: dict[str, Any] = {"id_tag": "NEW", "external_customer_id": "cus_ada", "external_subscription_id": "sub_ada"}
    dates: dict[str, Any] = {"valid_from": ago(hours=1), "release_from": ago(days=4)}
    preview = await world.rooms.links.preview_link(PreviewLink(**target, **dates), ADA)
    assert (preview.held_to_release, preview.held_wh) == (2, 6_000)
    async with world.service.database.write() as tx:
        await world.rooms.linking.link_card(tx, LinkCard(**target, **dates), ADA)
    await world.turn()
    assert world.counted() == (6_000, 2)
    assert {(await world.session(pk)).billing for pk in (recent, child)} == {"synced"}
    assert {(await world.session(pk)).hold_reason for pk in (old, other)} == {"card_unlinked"}
    async with world.service.database.write() as tx:
        again = RelinkCard(**target | {"external_customer_id": "cus_bob", "external_subscription_id": "sub_bob"})
        await world.rooms.linking.relink_card(tx, again, ADA)
    await world.turn()
    assert (await world.session(old)).billing == "held"


async def test_a_session_without_a_link_is_not_released(world: World) -> None:
    """A release does not invent an owner."""
    world.steve.state.add_tag("LONER")
    pk = world.charge("LONER").pk
    await world.turn()
    changed = await do(world, ReleaseHeld(sessions=[f"main:{pk}"]))
    assert changed.sessions == []
    assert "linked to nobody" in changed.refused[f"main:{pk}"]


async def change(world: World, id_tag: str, *, active: bool) -> None:
    async with world.service.database.write() as tx:
        await world.rooms.cards.change_card(tx, ChangeCard(id_tag=id_tag, changes={"active": active}), ADA)


async def test_an_inactive_cards_sessions_are_released_or_wait_for_it(world: World) -> None:
    """One is let pass by an operator; the other is billed by itself once the card is active again."""
    await world.link("A")
    await change(world, "A", active=False)
    one, two = (world.charge("A", wh, charge_box_id=f"B{wh}").pk for wh in (1_000, 2_000))
    await world.turn()
    assert {(await world.session(pk)).hold_reason for pk in (one, two)} == {"card_inactive"}
    assert (await do(world, ReleaseHeld(sessions=[f"main:{one}"]))).sessions == [f"main:{one}"]
    await world.turn()
    assert world.counted() == (1_000, 1)
    await change(world, "A", active=True)
    world.clock.advance(minutes=6)
    await world.turn()
    assert world.counted() == (3_000, 2)
    assert [one.data["reason"] for one in await world.events("transaction.released")] == ["card_inactive"] * 2


async def test_an_unknown_cards_session_is_released_to_who_it_is_linked_to(world: World) -> None:
    """SteVe added the card itself, when it charged; linked since, a release bills what it charged."""
    pk = world.charge("GHOST", 1_000).pk
    await world.turn()
    assert (await world.session(pk)).hold_reason == "card_unknown"
    assert "linked to nobody" in (await do(world, ReleaseHeld(sessions=[f"main:{pk}"]))).refused[f"main:{pk}"]
    await world.link("GHOST", valid_from=ago(hours=1))
    assert (await do(world, ReleaseHeld(sessions=[f"main:{pk}"]))).sessions == [f"main:{pk}"]
    await world.turn()
    assert world.counted() == (1_000, 1)


async def test_retry_decides_again_and_lets_nothing_pass(world: World) -> None:
    """A retry bills what can be billed by now and leaves the rest held, without telling it again."""
    await world.link("A")
    impossible = world.charge("A", 500_000).pk
    repaired = world.charge("A", 0, charge_box_id="B2")
    await world.turn()
    repaired.stops[0].value = str(int(repaired.start_value) + 700)
    world.clock.advance(hours=1)
    changed = await do(world, RetryHeld(everything=True))
    assert len(changed.sessions) == 2
    await world.turn()
    assert world.counted() == (700, 1)
    assert (await world.session(repaired.pk)).billing == "synced"
    assert [one.session.session for one in (await held(world)).held] == [f"main:{impossible}"]
    assert len(await world.events("transaction.held")) == 2
    with pytest.raises(Invalid):
        await do(world, RetryHeld())
    with pytest.raises(SessionUnknown):
        await do(world, RetryHeld(sessions=["main:4711"]))


async def test_a_missing_subscription_is_billed_when_it_starts(world: World) -> None:
    """A session held for want of a subscription is looked at again by itself."""
    await world.link("A", "cus_bob", "sub_bob")
    subscription = world.lago.state.find_subscription("sub_bob")
    assert subscription is not None
    subscription.status = "pending"
    pk = world.charge("A", 1_000).pk
    await world.turn()
    assert (await world.session(pk)).hold_reason == "no_active_subscription"
    subscription.status = "active"
    world.clock.advance(minutes=6)
    await world.turn()
    assert world.counted("sub_bob") == (1_000, 1)


async def test_a_lago_that_does_not_answer_is_no_missing_subscription(world: World) -> None:
    """While Lago is silent, a session waits; it is not held."""
    await world.link("A")
    pk = world.charge("A", 1_000).pk
    world.lago.faults.add("down", path="/api/v1/subscriptions")
    await world.turn()
    row = await world.session(pk)
    assert (row.billing, row.hold_reason) == ("pending", None)
    assert row.settle_at > world.clock()


async def test_a_plan_that_would_not_bill_holds(world: World) -> None:
    """Where the plan has no charge on the metric, the energy would be free: held."""
    await world.link("A", "cus_bob", "sub_free")
    pk = world.charge("A", 1_000).pk
    await world.turn()
    assert (await world.session(pk)).hold_reason == "plan_without_charge"
    assert world.lago.requests.count("POST", "/api/v1/events") == 0


@pytest.mark.parametrize("policy", ["hold", "bill_in_current_period"])
async def test_late_energy_follows_the_policy(build_world: Build, policy: str) -> None:
    """Energy of a period that is over is held, or billed in the current one with a timestamp that is chosen once."""
    now = datetime.now(UTC)
    subscription = {
        "external_id": "sub_ada",
        "external_customer_id": "cus_ada",
        "plan_code": "ev",
        "started_at": (now - timedelta(days=3 * 365)).isoformat(),
        "billing_time": "calendar",
    }
    plans = [{**LAGO_SEED["plans"][0], "interval": "weekly"}]
    seed = {**LAGO_SEED, "plans": plans, "subscriptions": [subscription]}
    world = await build_world(lago=LagoSettings(seed=seed), late_policy=policy)
    lago = world.lago.state.find_subscription("sub_ada")
    assert lago is not None
    period = world.lago.state.current_period(lago)
    lago.final_periods.append(FinalPeriod(from_us=0, to_us=period.from_us - 1, at_us=period.from_us))
    await world.link("A")
    pk = world.charge("A", 1_000, start_at=ago(days=20)).pk
    await world.turn()
    if policy == "hold":
        assert (await world.session(pk)).hold_reason == "late"
        await do(world, ReleaseHeld(sessions=[f"main:{pk}"]))
        world.lago.faults.add("drop_after_commit", path="/api/v1/events/batch", count=1)
        await world.turn()
        world.clock.advance(minutes=6)
        await world.turn()
    assert world.counted() == (1_000, 1)


async def test_a_correction_that_lago_cannot_take_needs_a_credit_note(world: World) -> None:
    """Less energy on a charge that is paid in advance is held, not sent."""
    await world.link("A", "cus_bob", "sub_prepaid")
    one = world.charge("A", 9_000, stop_actor=StopActor.MANUAL)
    await world.turn()
    assert world.counted("sub_prepaid") == (9_000, 1)
    value = str(int(one.stops[0].value) - 600)
    world.steve.state.add_stop(one.pk, Stop(at=one.stops[0].at, value=value, reason=None, actor=StopActor.STATION))
    world.clock.advance(minutes=2)
    await world.turn()
    row = await world.session(one.pk)
    assert (row.billing, row.hold_reason) == ("held", "needs_credit_note")
    assert "600 Wh" in row.hold_explanation
    assert world.counted("sub_prepaid") == (9_000, 1)


async def test_a_start_is_judged_by_the_card_as_it_was_then(world: World) -> None:
    """Blocked when it began, and unblocked before it ended: held as a blocked start, not taken for a login."""
    await world.link("A")
    world.steve.state.add_tag("B", limit=0)
    await world.rooms.mirror.refresh()
    one = world.charge("B", None, start_at=world.clock() + timedelta(seconds=1))
    async with world.service.database.write() as tx:
        await keep_verdict(tx, "main", one.pk, "Blocked", world.clock())
        await keep_blocked(tx, "main", "CP-1", "B", one.start_at)
    world.clock.advance(minutes=10)
    await world.turn()
    tag = world.steve.state.tag("B")
    assert tag is not None
    tag.limit = 1
    at, value = world.clock(), str(int(one.start_value) + 1_000)
    world.steve.state.add_stop(one.pk, Stop(at=at, value=value, reason="Local", actor=StopActor.STATION))
    world.clock.advance(minutes=2)
    await world.turn()
    assert [
        row.blocked_since for row in await world.rows("SELECT blocked_since FROM sync.card WHERE id_tag = 'B'")
    ] == [None]
    assert (await world.session(one.pk)).hold_reason == "blocked_start"
