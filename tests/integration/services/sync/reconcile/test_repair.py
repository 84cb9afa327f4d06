"""What reconcile proposes can be done: a named session is sent or settled again, under the ids that it has."""

import pytest

from shared.contracts.requests.sync_work import RetryHeld
from tests.integration.services.sync.conftest import World
from tests.integration.services.sync.reconcile.proving import billed, kinds, lose, prove, settle
from tests.integration.services.sync.test_held import do


async def test_what_lago_lost_is_sent_again(world: World) -> None:
    """The same event, once, of the session that is named; then all adds up, and another retry has nothing to do."""
    pks = await billed(world, 2_000, 3_500)
    lose(world, pks[1])
    assert [kind for kind, *_ in kinds(await prove(world))] == ["sent_not_stored"]
    before = [one.usage_event_id for one in await world.entries(pks[1])]
    changed = await do(world, RetryHeld(sessions=[f"main:{pks[1]}"]))
    assert (changed.sessions, changed.refused) == ([f"main:{pks[1]}"], {})
    await settle(world)
    assert world.counted() == (5_500, 2)
    assert [one.usage_event_id for one in await world.entries(pks[1])] == before
    assert (await world.session(pks[1])).billing == "counted"
    assert (await prove(world)).equal
    again = await do(world, RetryHeld(sessions=[f"main:{pk}" for pk in pks]))
    assert again.sessions == []
    assert set(again.refused.values()) == {
        "It is not held but counted, and Lago has all of it as SteVe recorded it.",
    }


async def test_what_the_ledger_has_otherwise_is_settled_again(world: World) -> None:
    """A session whose record says more than its ledger is billed the rest, as the next entry of its chain."""
    pks = await billed(world, 2_000, 3_000)
    one = world.steve.state.transactions[pks[1]]
    one.stops[0].value = str(int(one.start_value) + 3_400)
    async with world.service.database.write() as tx:
        await tx.exec_driver_sql(f"UPDATE sync.session SET stop_wh = stop_wh + 400 WHERE transaction_pk = {pks[1]}")
    assert kinds(await prove(world)) == [("ledger_differs", -400, f"main:{pks[1]}")]
    changed = await do(world, RetryHeld(sessions=[f"main:{pks[1]}"]))
    assert changed.sessions == [f"main:{pks[1]}"]
    await settle(world)
    assert world.counted() == (5_400, 3)
    assert (await prove(world)).equal


@pytest.mark.parametrize("fault", ["down", "http_429"])
async def test_without_lagos_answer_nothing_is_sent_again(world: World, fault: str) -> None:
    """What cannot be told is not done; it says so."""
    (pk,) = await billed(world, 2_000)
    lose(world, pk)
    world.lago.faults.add(fault)
    changed = await do(world, RetryHeld(sessions=[f"main:{pk}"]))
    assert changed.sessions == []
    assert "Lago did not say what it has of it" in changed.refused[f"main:{pk}"]
    assert [one.state for one in await world.entries(pk)] == ["counted"]


async def test_what_lago_took_just_now_is_not_sent_again(world: World) -> None:
    """It may not be shown yet."""
    await world.link("A")
    pk = world.charge("A", 2_000).pk
    await world.turn()
    lose(world, pk)
    changed = await do(world, RetryHeld(sessions=[f"main:{pk}"]))
    assert changed.sessions == []
    assert [one.state for one in await world.entries(pk)] == ["delivered"]
