"""A large backlog with one in a hundred of each anomaly: everything adds up."""

import resource
from collections import Counter
from datetime import timedelta

import pytest

from deploy.demo.steve.model import StopActor
from shared.contracts.requests.sync_work import ListRuns, SearchHeld
from tests.integration.services.sync.conftest import ADA, World, ago

CHARGERS = 20
LENGTH = timedelta(minutes=4)


@pytest.mark.parametrize(
    "count",
    [2_000, pytest.param(100_000, marks=[pytest.mark.full, pytest.mark.timeout(1800)])],
)
async def test_a_backlog_adds_up(world: World, count: int) -> None:
    """The counters add up, each held session has its reason, Lago counted the rest, and memory stays flat."""
    await world.link("FINE")
    world.steve.state.add_tag("LONER")
    await world.link("IDLE")
    async with world.service.database.write() as tx:
        await tx.exec_driver_sql("UPDATE sync.card SET active = false WHERE id_tag = 'IDLE'")
    expected, fine_wh = fill(world, count)
    before_mb = peak_mb()
    run = await world.rooms.runner.turn()
    while await world.rooms.settler.settle() or await world.rooms.delivery.deliver():
        pass
    grown_mb = peak_mb() - before_mb
    assert run is not None
    rows = await world.rows("SELECT billing, hold_reason, count(*) AS n FROM sync.session GROUP BY 1, 2")
    held = Counter({row.hold_reason: row.n for row in rows if row.billing == "held"})
    assert held == expected
    assert {row.billing for row in rows} == {"synced", "held"}
    assert world.counted() == (fine_wh, count - sum(expected.values()))
    counters = (await world.rooms.runs.list_runs(ListRuns(), ADA)).runs[0].counters
    assert counters.seen == count
    assert (counters.billed, counters.held) == (count - sum(expected.values()), sum(expected.values()))
    page = await world.rooms.held.search_held(SearchHeld(), ADA)
    assert sum(one.count for one in page.classes) == sum(expected.values())
    assert all(one.remedy for one in page.classes)
    # What the simulators in this process keep for each session is counted in, too.
    assert grown_mb < 150 + count / 100


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fill(world: World, count: int) -> tuple[Counter[str], int]:
    """Sessions one after the other on each charger; of each hundred, one for each anomaly."""
    expected: Counter[str] = Counter()
    fine_wh = 0
    begin = ago(days=90)
    meters = dict.fromkeys(range(CHARGERS), 10_000_000)
    clocks = {charger: begin + timedelta(seconds=charger) for charger in range(CHARGERS)}
    with world.steve.state.batch():
        for number in range(count):
            charger = number % CHARGERS
            kind = KINDS.get(number // CHARGERS % 100 if count >= 100 * CHARGERS else number % 100)
            start_at, start_wh = clocks[charger], meters[charger]
            stop_at, energy_wh, tag = start_at + LENGTH, 2_000, "FINE"
            match kind:
                case "no_energy":
                    energy_wh = 0
                case "negative_energy":
                    energy_wh = -300
                case "too_much_energy":
                    energy_wh = 700_000
                case "stop_before_start":
                    stop_at = start_at - timedelta(minutes=1)
                case "card_unlinked":
                    tag = "LONER"
                case "card_inactive":
                    tag = "IDLE"
            world.steve.state.add_transaction(
                charge_box_id=f"CP-{charger}",
                id_tag=tag,
                start_at=start_at,
                start_wh=start_wh,
                stop_at=stop_at,
                stop_wh="?" if kind == "meter_unreadable" else start_wh + energy_wh,
                stop_actor=StopActor.STATION,
            )
            clocks[charger] = max(stop_at, start_at) + timedelta(minutes=1)
            meters[charger] = start_wh + max(energy_wh, 0)
            if kind is None:
                fine_wh += energy_wh
            else:
                expected[kind] += 1
    return expected, fine_wh


KINDS = {
    10: "no_energy",
    20: "negative_energy",
    30: "too_much_energy",
    40: "stop_before_start",
    50: "meter_unreadable",
    60: "card_unlinked",
    70: "card_inactive",
}
