"""What Lago says of a subscription is true of the moment in which it was asked."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from deploy.demo.lago import lifecycle
from services.sync.lago import store as subscriptions
from services.sync.lago.models import Subscription
from services.sync.links import store as links
from shared.contracts.requests.sync_cards import UndoChange
from tests.integration.services.sync.conftest import World
from tests.integration.services.sync.test_cards import do


async def test_an_older_answer_does_not_undo_a_newer_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that was long on its way says what was before: that the subscription ended since stays known, and what
    comes after its end is held.
    """
    await world.link("A")
    lago, asking = world.rooms.lago, world.rooms.subscriptions
    real, asked, go_on = lago.subscription, asyncio.Event(), asyncio.Event()

    async def slowly(external_id: str, *, status: str = "active") -> Subscription | None:
        answer = await real(external_id, status=status)
        asked.set()
        await go_on.wait()
        return answer

    monkeypatch.setattr(lago, "subscription", slowly)
    early = asyncio.create_task(asking.refresh({"sub_ada"}))
    await asked.wait()
    monkeypatch.undo()
    world.clock.advance(seconds=1)
    lifecycle.terminate(world.lago.state, "sub_ada")
    world.clock.advance(seconds=1)
    assert await asking.refresh({"sub_ada"}) == {"sub_ada"}
    go_on.set()
    assert await early == {"sub_ada"}
    [row] = await world.rows("SELECT active FROM sync.subscription")
    assert not row.active
    one = world.charge("A", 400, start_at=world.clock(), stop_at=world.clock())
    await world.turn()
    assert (await world.session(one.pk)).hold_reason == "after_subscription"
    assert world.counted() == (0, 0)


async def test_nothing_is_asked_any_more_once_asking_has_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one of several questions breaks off, the others have been answered before that is told."""
    real, answered = world.rooms.lago.subscription, list[str]()

    async def breaks(external_id: str, *, status: str = "active") -> Subscription | None:
        if external_id == "sub_ada":
            raise RuntimeError(external_id)
        await asyncio.sleep(0.1)
        answered.append(external_id)
        return await real(external_id, status=status)

    monkeypatch.setattr(world.rooms.lago, "subscription", breaks)
    with pytest.raises(RuntimeError):
        await world.rooms.subscriptions.refresh({"sub_ada", "sub_bob"})
    assert answered == ["sub_bob"]


async def test_an_answer_dated_ahead_hides_none_that_follow(world: World) -> None:
    """What a process kept whose clock was ahead is asked for again, and gives way to any answer since: the subscription
    that ended ends its link, and what comes after its end is held.
    """
    await world.link("A")
    world.clock.advance(days=1)
    assert await world.rooms.subscriptions.refresh({"sub_ada"}) == {"sub_ada"}
    world.clock.advance(days=-1)
    lifecycle.terminate(world.lago.state, "sub_ada")
    world.clock.advance(seconds=2)
    one = world.charge("A", 400, start_at=world.clock(), stop_at=world.clock())
    await world.turn()
    assert (await world.session(one.pk)).hold_reason == "after_subscription"
    assert world.counted() == (0, 0)
    [row] = await world.rows("SELECT active, checked_at FROM sync.subscription")
    assert (row.active, row.checked_at <= world.clock()) == (False, True)


def make_again(world: World) -> None:
    lifecycle.create_subscription(
        world.lago.state, external_id="sub_ada", external_customer_id="cus_ada", plan_code="ev"
    )


async def ended_and_made_again(world: World) -> None:
    """A link ended with its subscription, which there is again a moment later."""
    await world.link("A")
    lifecycle.terminate(world.lago.state, "sub_ada")
    world.clock.advance(minutes=11)
    assert await world.rooms.follow.follow() == 1
    world.clock.advance(seconds=10)
    make_again(world)
    world.clock.advance(seconds=10)


async def goes_on(world: World, id_tag: str) -> bool:
    going_on = "SELECT 1 FROM sync.link JOIN sync.card ON card.pk = card_pk WHERE valid_to IS NULL AND id_tag = :id_tag"
    return bool(await world.rows(going_on, id_tag=id_tag))


@pytest.mark.parametrize("how", ["linked", "undone"])
async def test_a_link_is_not_ended_by_what_lago_said_before_it(world: World, how: str) -> None:
    """Lago is asked when a card is linked, or its link is to go on, and what it says then counts, for what is billed
    under the link, too. Once it says again that the subscription has ended, so does the link.
    """
    await ended_and_made_again(world)
    if how == "linked":
        await world.link("A", valid_from=world.clock())
    else:
        [change] = await world.rows("SELECT change_id FROM sync.card_change WHERE kind = 'unlink'")
        await do(world, UndoChange(change_id=change.change_id))
    assert await world.rooms.follow.follow() == 0
    assert await goes_on(world, "A")
    one = world.charge("A", 400, start_at=world.clock(), stop_at=world.clock() + timedelta(seconds=20))
    world.clock.advance(seconds=20)
    await world.turn()
    assert (await world.session(one.pk)).hold_reason is None
    assert world.counted() == (400, 1)
    lifecycle.terminate(world.lago.state, "sub_ada")
    world.clock.advance(minutes=11)
    assert await world.rooms.follow.follow() == 1
    assert not await goes_on(world, "A")


@pytest.mark.parametrize(("room", "step"), [(subscriptions, "keep_subscribed"), (links, "going_on")])
async def test_a_link_that_is_made_after_lago_was_asked_goes_on(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    room: Any,  # noqa: ANN401 - a module
    step: str,
) -> None:
    """Lago was asked before the subscription was made again: what it said ends no link that was made since, be that
    while its answer was on its way, or when it had been kept.
    """
    await world.link("B")
    lifecycle.terminate(world.lago.state, "sub_ada")
    world.clock.advance(minutes=11)
    real = getattr(room, step)

    async def linked_meanwhile(*given: Any) -> Any:  # noqa: ANN401 - what the step takes and gives
        monkeypatch.undo()
        world.clock.advance(seconds=1)
        make_again(world)
        await world.link("A", valid_from=world.clock())
        return await real(*given)

    monkeypatch.setattr(room, step, linked_meanwhile)
    await world.rooms.follow.follow()
    assert await goes_on(world, "A")


async def test_that_lago_had_none_before_a_link_does_not_count(world: World) -> None:
    """To be believed, Lago says twice that it has no such subscription: what it said before one was linked is not one
    of them.
    """
    await world.link("B")
    known = world.lago.state._by_external_id
    mine = known.pop("sub_ada")
    world.clock.advance(minutes=11)
    await world.rooms.follow.follow()
    known["sub_ada"] = mine
    world.clock.advance(minutes=2)
    await world.link("A", valid_from=world.clock())
    known.pop("sub_ada")
    world.clock.advance(minutes=11)
    await world.rooms.follow.follow()
    assert await goes_on(world, "A")
    world.clock.advance(minutes=11)
    await world.rooms.follow.follow()
    assert not await goes_on(world, "A")


async def test_lagos_silence_ends_no_link_by_what_it_said_long_ago(world: World) -> None:
    """The process stopped before it ended a link, and Lago does not answer when it is back: what it said then may be
    true no longer.
    """
    await world.link("A")
    lifecycle.terminate(world.lago.state, "sub_ada")
    world.clock.advance(minutes=1)
    await world.rooms.subscriptions.refresh({"sub_ada"})
    world.clock.advance(minutes=11)
    world.lago.faults.add("down")
    assert await world.rooms.follow.follow() == 0
    world.lago.faults.clear()
    world.rooms.lago._caller._breaker.succeeded()
    assert await world.rooms.follow.follow() == 1
