"""A large backlog with one in a hundred of each anomaly: everything adds up."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from deploy.demo.steve.model import StopActor
from services.sync.sessions.starts import keep_blocked, keep_verdict
from shared.contracts.requests.sync_work import ListRuns, SearchHeld
from tests.infra import Infra
from tests.integration.services.sync.conftest import ADA, STEVE_ID, Build, World, ago, eventually
from tests.integration.services.sync.test_killed import Processes

CHARGERS = 20
LENGTH = timedelta(minutes=4)
ENERGY_WH = 2_000
KINDS = (
    "no_energy",
    "negative_energy",
    "too_much_energy",
    "stop_before_start",
    "meter_unreadable",
    "in_future",
    "blocked_start",
    "intercepted_start",
    "expired_start",
    "start_at_zero",
    "meter_went_back",
    "overlapping",
    "open_too_long",
    "card_unlinked",
    "card_unknown",
    "card_inactive",
    "no_active_subscription",
)
CARDS = {
    "card_unlinked": "LONER",
    # SteVe itself adds a card that it does not know, blocked.
    "card_unknown": "GHOST",
    "card_inactive": "IDLE",
    "expired_start": "EXPIRED",
    "no_active_subscription": "EARLY",
}


@pytest.mark.parametrize(
    "count",
    [2_000, pytest.param(100_000, marks=[pytest.mark.full, pytest.mark.timeout(1800)])],
)
async def test_a_backlog_adds_up(world: World, count: int) -> None:
    """The counters add up, each held session has its reason, and Lago counted the rest."""
    backlog = await prepare(world, count)
    run = await world.rooms.runner.turn()
    while run is not None and run.more:
        run = await world.rooms.runner.turn()
    # What is open for too long, and what holds a session back once it is known.
    await world.rooms.poller.hold_stuck()
    while await world.rooms.settler.settle() or await world.rooms.delivery.deliver():
        pass
    assert run is not None
    held, fine = backlog.expected, count - backlog.expected.total()
    rows = await world.rows("SELECT transaction_pk, billing, hold_reason FROM sync.session")
    entries = await world.rows("SELECT transaction_pk, to_wh - from_wh AS wh FROM sync.ledger_entry")
    assert {row.transaction_pk: row.hold_reason for row in rows if row.billing == "held"} == backlog.reasons
    assert set(held.values()) == {count // 100}
    assert {row.transaction_pk for row in rows if row.billing == "synced"} == backlog.fine_wh.keys()
    assert {row.transaction_pk: row.wh for row in entries} == backlog.fine_wh
    assert len(rows) == count
    assert len(entries) == fine
    assert world.counted() == (sum(backlog.fine_wh.values()), fine)
    counters = [one.counters for one in (await world.rooms.runs.list_runs(ListRuns(), ADA)).runs]
    still_open = held["open_too_long"]
    assert sum(one.seen for one in counters) == count - still_open
    assert sum(one.billed for one in counters) == fine
    assert sum(one.held for one in counters) == held.total() - still_open
    page = await world.rooms.held.search_held(SearchHeld(), ADA)
    assert sum(one.count for one in page.classes) == held.total()
    assert all(one.remedy for one in page.classes)


@pytest.mark.parametrize(
    ("small", "large"),
    [
        pytest.param(1_000, 4_000, marks=pytest.mark.timeout(600)),
        pytest.param(10_000, 100_000, marks=[pytest.mark.full, pytest.mark.timeout(3600)]),
    ],
)
async def test_memory_stays_flat(infra: Infra, build_world: Build, small: int, large: int) -> None:
    """Sync itself, in a process of its own, needs for a large backlog what it needs for a small one."""
    amqp_url = (await asyncio.to_thread(lambda: infra.rabbitmq)).url
    peaks_mb = [await peak_mb(await build_world(), amqp_url, count) for count in (small, large)]
    assert peaks_mb[1] - peaks_mb[0] < 30, peaks_mb


async def peak_mb(world: World, amqp_url: str, count: int) -> float:
    """The most that a sync ever held in memory until it had worked off a backlog."""
    backlog = await prepare(world, count)
    # Whether one is open for too long is looked at once a minute.
    finished = count - backlog.expected["open_too_long"]
    processes = Processes(world, amqp_url)
    process = processes.start()

    async def worked_off() -> bool:
        rows = await world.rows("SELECT count(*) AS n FROM sync.session WHERE billing IN ('synced', 'counted', 'held')")
        # To count thousands of rows all the time would be most of what the machine does.
        await asyncio.sleep(0.5)
        return int(rows[0].n) >= finished

    try:
        await eventually(worked_off, within_s=60 + count / 50)
        status = (await asyncio.to_thread(Path(f"/proc/{process.pid}/status").read_text)).splitlines()
    finally:
        await asyncio.to_thread(processes.end)
    return int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) / 1024


async def prepare(world: World, count: int) -> "Backlog":
    """Cards of all kinds, and `count` sessions in SteVe's history."""
    for name in ("FINE", "IDLE", "EXPIRED"):
        await world.link(name)
    world.steve.state.add_tag("LONER")
    await world.link("EARLY", "cus_bob", "sub_bob")
    subscription = world.lago.state.find_subscription("sub_bob")
    assert subscription is not None
    subscription.status = "pending"
    expired = world.steve.state.tag("EXPIRED")
    assert expired is not None
    expired.expiry = ago(days=95)
    await world.rooms.mirror.refresh()
    async with world.service.database.write() as tx:
        await tx.exec_driver_sql("UPDATE sync.card SET active = false WHERE id_tag = 'IDLE'")
    backlog = Backlog(world)
    with world.steve.state.batch():
        for number in range(count):
            slot = number // CHARGERS % 100 if count >= 100 * CHARGERS else number % 100
            backlog.add(number % CHARGERS, KINDS[slot // 5] if slot % 5 == 0 and slot // 5 < len(KINDS) else None)
    async with world.service.database.write() as tx:
        for pk, verdict in backlog.verdicts.items():
            await keep_verdict(tx, STEVE_ID, pk, verdict, world.clock())
        for box, id_tag, at in backlog.intercepted:
            await keep_blocked(tx, STEVE_ID, box, id_tag, at)
    return backlog


@dataclass
class Backlog:
    """Sessions one after the other on each charger. What cannot be after another one has a charger of its own."""

    world: World
    expected: Counter[str] = field(default_factory=Counter)
    reasons: dict[int, str] = field(default_factory=dict)
    fine_wh: dict[int, int] = field(default_factory=dict)
    verdicts: dict[int, str] = field(default_factory=dict)
    intercepted: list[tuple[str, str, datetime]] = field(default_factory=list)
    begin: datetime = field(default_factory=lambda: ago(days=90))
    _next: dict[str, tuple[datetime, int]] = field(default_factory=dict)

    def add(self, charger: int, kind: str | None) -> None:
        self.expected += Counter([kind] if kind is not None else [])
        box, (start_at, start_wh) = self._place(f"CP-{charger}", kind)
        stop_at: datetime | None = start_at + LENGTH
        # No two neighbours have the same.
        usual_wh = ENERGY_WH + len(self.fine_wh) % 1_000
        energy_wh = {"no_energy": 0, "negative_energy": -300, "too_much_energy": 700_000}.get(kind or "", usual_wh)
        meter = start_wh + max(energy_wh, 0)
        match kind:
            case "stop_before_start":
                stop_at = start_at - timedelta(minutes=1)
            case "in_future":
                stop_at = start_at + timedelta(hours=2)
            case "open_too_long":
                stop_at = None
            case "start_at_zero":
                start_wh = 0
            case "meter_went_back":
                start_wh -= 5_000
        one = self.world.steve.state.add_transaction(
            charge_box_id=box,
            id_tag=CARDS.get(kind or "", "FINE"),
            start_at=start_at,
            start_wh=start_wh,
            stop_at=stop_at,
            stop_wh="?" if kind == "meter_unreadable" else start_wh + energy_wh,
            stop_actor=StopActor.STATION,
        )
        if kind is None:
            self.fine_wh[one.pk] = energy_wh
        else:
            self.reasons[one.pk] = kind
        if kind == "blocked_start":
            self.verdicts[one.pk] = "Invalid"
        if kind == "intercepted_start":
            self.intercepted.append((box, one.id_tag, start_at + timedelta(seconds=2)))
        pause = LENGTH + timedelta(minutes=1)
        if kind == "overlapping" and self.expected[kind] % 2:
            # The next one comes before this one has gone.
            pause = timedelta(minutes=1)
        self._next[box] = (start_at + pause, meter)

    def _place(self, box: str, kind: str | None) -> tuple[str, tuple[datetime, int]]:
        number = self.expected[kind or ""]
        match kind:
            case "in_future":
                box = f"FUTURE-{number}"
                self._next[box] = (self.world.clock(), 10_000_000)
            case "open_too_long":
                box = f"OPEN-{number}"
            case "overlapping":
                box = "OVERLAPPING"
        return box, self._next.get(box, (self.begin, 10_000_000))
