"""What Lago says of a subscription is true of the moment in which it was asked."""

import asyncio

import pytest

from deploy.demo.lago import lifecycle
from services.sync.lago.models import Subscription
from tests.integration.services.sync.conftest import World


async def test_an_older_answer_does_not_undo_a_newer_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that was long on its way says what was before: that the subscription ended since stays known, and what
    comes after its end is held.
    """
    await world.link("A")
    lago, subscriptions = world.rooms.lago, world.rooms.subscriptions
    real, asked, go_on = lago.subscription, asyncio.Event(), asyncio.Event()

    async def slowly(external_id: str, *, status: str = "active") -> Subscription | None:
        answer = await real(external_id, status=status)
        asked.set()
        await go_on.wait()
        return answer

    monkeypatch.setattr(lago, "subscription", slowly)
    early = asyncio.create_task(subscriptions.refresh({"sub_ada"}))
    await asked.wait()
    monkeypatch.undo()
    world.clock.advance(seconds=1)
    lifecycle.terminate(world.lago.state, "sub_ada")
    world.clock.advance(seconds=1)
    assert await subscriptions.refresh({"sub_ada"}) == {"sub_ada"}
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
