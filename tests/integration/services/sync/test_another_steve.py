"""A SteVe that is not the one `steve_id` names: nothing is taken from it, and nothing written to it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest

from deploy.demo.steve.model import MeterValue
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from services.sync.cards import problems
from services.sync.operations import handlers
from services.sync.upstreams.errors import UpstreamError
from shared.contracts.requests.sync import OperateCharger, OperationResult, ReadCardInSteve
from shared.contracts.requests.sync_cards import BlockCard, ChangeCard
from tests.integration.services.sync.conftest import ADA, Build, World, ago, effect


async def known(world: World, *cards: str) -> None:
    """Sessions of these cards were read."""
    for card in cards:
        await world.link(card)
        world.charge(card, 1_000)
    await world.turn()


@pytest.fixture
async def other() -> AsyncIterator[SteveSimulator]:
    async with run_steve(SteveSettings(auth_delay_ms=0)) as running:
        running.state.add_tag("STRANGER", limit=5)
        yield running


def point_to(world: World, steve: SteveSimulator) -> None:
    """The same settings lead to another SteVe from now on."""
    world.rooms.steve._caller._client.base_url = httpx.URL(steve.rest_url)


@pytest.mark.parametrize("transactions", [0, 2, 3, 50])
async def test_nothing_is_taken_from_another_steve_or_written_to_it(
    build_world: Build, other: SteveSimulator, transactions: int
) -> None:
    """However many transactions the other one has, even past what was read here: no session, no card and no deletion
    is believed of it, nothing is written to it, it is said why, and the right one is welcome again.
    """
    world = await build_world(card_policy="enforce")
    await known(world, "A", "B", "C")
    cards = await world.rows("SELECT id_tag, gone_at FROM sync.card ORDER BY id_tag")
    other.state.add_tag("A", limit=4)
    for number in range(transactions):
        start_at = ago(days=1) + timedelta(minutes=number)
        other.state.add_transaction(charge_box_id="ELSEWHERE", id_tag="STRANGER", start_at=start_at, start_wh=number)
    point_to(world, other)
    world.clock.advance(minutes=2)
    for look in (world.rooms.mirror.refresh, world.rooms.runner.turn, world.rooms.mirror.refresh):
        with pytest.raises(UpstreamError, match="is not the SteVe database called main"):
            await look()
    assert world.rooms.health.standing("steve").reason == "another_steve"
    assert await world.rows("SELECT id_tag, gone_at FROM sync.card ORDER BY id_tag") == cards
    assert len(await world.rows("SELECT 1 FROM sync.session")) == 3
    async with world.service.database.write() as tx:
        await world.rooms.cards.change_card(tx, ChangeCard(id_tag="A", changes={"active": False}), ADA)
    with pytest.raises(UpstreamError, match="is not the SteVe database"):
        await world.rooms.policy.enforce()
    with pytest.raises(problems.UpstreamSilent, match="is not the SteVe database"):
        async with world.service.database.write() as tx:
            await world.rooms.cards.block_card(tx, BlockCard(id_tag="A", reason="lost"), ADA, effect(world))
    assert {tag.id_tag: tag.limit for tag in other.state.tags.values()} == {"STRANGER": 5, "A": 4}
    asked = await world.rooms.card_queries.read_card_in_steve(ReadCardInSteve(id_tag="A"), ADA)
    assert not asked.answered
    async with world.service.database.write() as tx:
        operated = await world.rooms.operations.operate_charger(
            tx, OperateCharger(charge_box_id="CP-1", operation="ClearCache"), ADA, effect(world)
        )
    assert operated.outcome == "failed"
    assert "nothing was done" in (operated.problem or "")
    assert not [route for route in other.state.requests if not route.startswith("GET")]
    point_to(world, world.steve)
    await world.rooms.mirror.refresh()
    await world.rooms.runner.turn()
    assert world.rooms.health.standing("steve").state == "ok"


async def test_a_card_that_was_deleted_with_its_transactions_is_no_other_steve(world: World) -> None:
    """The newest transaction is gone with its card: the others are still there, so reading goes on."""
    await known(world, "A", "B")
    tag = world.steve.state.tag("B")
    assert tag is not None
    world.steve.state.remove_tag(tag.pk)
    world.clock.advance(seconds=30)
    world.charge("A", 2_000)
    await world.rooms.runner.turn()
    assert world.counted() == (4_000, 3)
    assert world.rooms.health.standing("steve").state == "ok"


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_steve_that_takes_long_to_show_who_it_is_is_not_asked_in_vain(
    build_world: Build, monkeypatch: pytest.MonkeyPatch, *, hangs: bool
) -> None:
    """Two operations that wait no longer ask it once, to the end: the next one is called by what was found meanwhile,
    and that SteVe does not answer at all is noted.
    """
    monkeypatch.setattr(handlers, "SAME_STEVE_WITHIN_S", 0.1)
    world = await build_world(steve_timeout_s=0.5 if hangs else 10)
    await known(world, "A", "B")
    tag = world.steve.state.tag("B")
    assert tag is not None
    world.steve.state.remove_tag(tag.pk)
    world.charge("A", 1_000)
    world.clock.advance(minutes=2)

    async def operate(charge_box_id: str) -> OperationResult:
        asked = OperateCharger(charge_box_id=charge_box_id, operation="ClearCache")
        async with world.service.database.write() as tx:
            return await world.rooms.operations.operate_charger(tx, asked, ADA, effect(world))

    before = world.rooms.steve.requests
    world.steve.faults.set("slow", 2_000 if hangs else 300, path="/steve/api/v1/transactions")
    for result in await asyncio.gather(operate("CP-1"), operate("CP-2")):
        assert (result.outcome, result.problem) == ("failed", "SteVe did not answer in time; nothing was done.")
    task = world.rooms.identity._urgent
    assert task is not None
    await asyncio.wait([task], timeout=20)
    # The transactions that are known, and, as the newest is gone, the highest there is.
    assert world.rooms.steve.requests == before + (1 if hangs else 2)
    if hangs:
        assert world.rooms.health.standing("steve").failures == 1
    else:
        assert (await operate("CP-1")).outcome == "not_connected"


async def test_what_is_compared_for_nobody_ends_with_the_process(world: World) -> None:
    """Whoever waited is gone, and SteVe is still silent."""
    await known(world, "A")
    world.clock.advance(minutes=2)
    world.steve.faults.set("slow", 60_000, path="/steve/api/v1/transactions")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.rooms.identity.check(urgent=True), 0.1)
    task = world.rooms.identity._urgent
    assert task is not None
    await world.rooms.identity.close()
    assert task.cancelled()
    world.steve.faults.clear()


async def test_the_only_card_may_be_deleted(world: World) -> None:
    """Where only one card ever charged, that all of its transactions are gone proves nothing."""
    await known(world, "A")
    tag = world.steve.state.tag("A")
    assert tag is not None
    world.steve.state.remove_tag(tag.pk)
    await world.link("B")
    world.charge("B", 2_000)
    world.clock.advance(seconds=30)
    await world.rooms.runner.turn()
    assert world.counted() == (3_000, 2)


async def test_an_older_state_of_the_right_steve_is_refused(world: World) -> None:
    """A restored backup has the old transactions and gives the ids of the lost ones away anew."""
    await known(world, "A", "B")
    state = world.steve.state
    state._remove_transaction(state.transactions[2])
    world.clock.advance(seconds=30)
    with pytest.raises(UpstreamError, match="highest transaction is 1, and 2 has been seen"):
        await world.rooms.runner.turn()


async def test_no_step_is_billed_by_the_readings_of_another_steve(build_world: Build, other: SteveSimulator) -> None:
    """Another transaction has the id of the running one: what its meter says is billed to nobody."""
    world = await build_world(incremental_kwh=1)
    await world.link("A")
    running = world.charge("A", None, start_at=ago(hours=1))
    await world.turn()
    stranger = other.state.add_transaction(
        charge_box_id="ELSEWHERE", id_tag="STRANGER", start_at=ago(hours=2), start_wh=0
    )
    assert stranger.pk == running.pk
    reading = MeterValue(at=ago(minutes=30), value="9000", measurand="Energy.Active.Import.Register", unit="Wh")
    other.state.add_meter_values(stranger.pk, [reading])
    point_to(world, other)
    with pytest.raises(UpstreamError, match="is not the SteVe database called main"):
        await world.rooms.progress.bill_running()
    assert await world.entries(running.pk) == []
    assert world.rooms.health.standing("steve").reason == "another_steve"
