"""The promise: whatever happens in whatever order, Lago counts each Wh once, and for whom it was used."""

import asyncio
import contextlib
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from deploy.demo.steve.model import MeterValue, Stop, StopActor, Transaction
from services.sync.main import Rooms
from services.sync.upstreams.errors import UpstreamError
from shared.contracts.requests.sync_cards import RelinkCard
from shared.contracts.requests.sync_work import RetryHeld
from tests.databases import TestDatabase
from tests.integration.services.sync.conftest import ADA, World, a_replica, a_world

CARDS = ("CARD-A", "CARD-B", "CHILD")
SUBSCRIPTIONS = {"sub_ada": "cus_ada", "sub_bob": "cus_bob"}

LAGO_FAULTS = (
    "drop_after_commit",
    "slow",
    "drop_before",
    "http_500",
    "html_502",
    "empty_5xx",
    "http_429",
    "login_redirect",
)
STEVE_FAULTS = ("down", "5xx", "html", "login_redirect", "drop_before", "wrong_credentials")


@dataclass
class Model:
    """What should be billed, kept by the simplest means."""

    links: dict[str, list[tuple[datetime, str]]] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)
    transactions: list[Transaction] = field(default_factory=list)

    def owner(self, card: str, at: datetime) -> str:
        linked = "CARD-A" if card == "CHILD" else card
        return next(subscription for since, subscription in reversed(self.links[linked]) if since <= at)

    def expected(self) -> dict[str, int]:
        totals = dict.fromkeys(SUBSCRIPTIONS, 0)
        for one in self.transactions:
            if one.stop is not None:
                totals[self.owners[one.pk]] += int(one.stop.value) - int(one.start_value)
        return totals


actions = st.one_of(
    st.tuples(st.just("charge"), st.sampled_from(CARDS), st.integers(1, 40_000), st.sampled_from(["ended", "open"])),
    st.tuples(st.just("charge"), st.sampled_from(CARDS), st.integers(1, 40_000), st.just("manual")),
    st.tuples(st.just("late"), st.sampled_from(CARDS), st.integers(1, 40_000), st.integers(1, 48)),
    st.tuples(st.just("stop"), st.integers(0, 9), st.integers(1, 40_000)),
    st.tuples(st.just("restop"), st.integers(0, 9), st.integers(1, 40_000)),
    st.tuples(st.just("relink"), st.sampled_from(["CARD-A", "CARD-B"]), st.sampled_from(sorted(SUBSCRIPTIONS))),
    st.tuples(st.just("lago"), st.sampled_from(LAGO_FAULTS), st.integers(1, 3), st.sampled_from(["/events", ""])),
    st.tuples(st.just("steve"), st.sampled_from(STEVE_FAULTS), st.integers(1, 3)),
    st.tuples(st.just("turn"), st.integers(0, 1)),
    st.tuples(st.just("both")),
    st.tuples(st.just("step"), st.integers(0, 9), st.integers(1, 20_000), st.integers(0, 1)),
    st.tuples(st.just("count"), st.integers(0, 1)),
    st.tuples(st.just("retry")),
    st.tuples(st.just("die"), st.integers(0, 1), st.integers(0, 60)),
    st.tuples(st.just("later"), st.integers(1, 30)),
)


histories = st.lists(actions, min_size=5, max_size=25)
checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=checks)
@given(histories)
async def test_each_wh_is_counted_once(template: TestDatabase, steps: list[tuple[Any, ...]]) -> None:
    """For any history, faults, crashes and two replicas: Lago counted what was used, for whom it was used."""
    await prove(template, steps)


@pytest.mark.full
@pytest.mark.timeout(3600)
@settings(max_examples=300, deadline=None, suppress_health_check=checks)
@given(histories)
async def test_each_wh_is_counted_once_in_any_history(template: TestDatabase, steps: list[tuple[Any, ...]]) -> None:
    """The same, for hundreds of histories that are new each time."""
    await prove(template, steps)


async def prove(template: TestDatabase, steps: list[tuple[Any, ...]]) -> None:
    # A slow Lago does what it was asked after nobody waits for its answer any more.
    async with a_world(template, incremental_kwh=1, lago_timeout_s=0.7) as world, AsyncExitStack() as stack:
        _, second = await a_replica(stack, world.settings, world.clock)
        play = Play(world, [world.rooms, second])
        await play.begin()
        for step in steps:
            await play.step(*step)
        await play.settle()
        counted = {name: world.counted(name)[0] for name in SUBSCRIPTIONS}
        note(f"expected {play.model.expected()}, counted {counted}")
        assert counted == play.model.expected()
        await play.check_books()


class Play:
    def __init__(self, world: World, replicas: list[Rooms]) -> None:
        self.world, self.replicas, self.model = world, replicas, Model()

    async def begin(self) -> None:
        state = self.world.steve.state
        for name in ("CARD-A", "CARD-B"):
            state.add_tag(name)
        state.add_tag("CHILD", parent_id_tag="CARD-A")
        for name, subscription in (("CARD-A", "sub_ada"), ("CARD-B", "sub_bob")):
            await self.world.link(name, SUBSCRIPTIONS[subscription], subscription)
            self.model.links[name] = [(datetime.min.replace(tzinfo=self.world.clock().tzinfo), subscription)]

    async def step(self, name: str, *given: Any) -> None:  # noqa: ANN401 - each action has its own
        self.world.clock.advance(seconds=1)
        await getattr(self, f"do_{name}")(*given)

    async def do_charge(self, card: str, energy_wh: int, kind: str) -> None:
        self._add(card, energy_wh, self.world.clock(), kind)

    async def do_late(self, card: str, energy_wh: int, hours: int) -> None:
        """A station that was offline uploads what it has: ids in order of arrival, times of long ago."""
        self._add(card, energy_wh, self.world.clock() - timedelta(hours=hours), "ended")

    def _add(self, card: str, energy_wh: int, start_at: datetime, kind: str) -> None:
        at = start_at.replace(microsecond=0)
        # Each on a charger of its own: what is wrong with meters and connectors is not what this is about.
        one = self.world.steve.state.add_transaction(
            charge_box_id=f"CP-{len(self.model.transactions)}",
            id_tag=card.lower(),
            start_at=at,
            start_wh=1_000,
            stop_at=None if kind == "open" else at + timedelta(minutes=30),
            stop_wh=1_000 + energy_wh,
            stop_actor=StopActor.MANUAL if kind == "manual" else StopActor.STATION,
        )
        self.model.transactions.append(one)
        self.model.owners[one.pk] = self.model.owner(card, at)
        self.world.clock.advance(minutes=31)

    async def do_stop(self, number: int, energy_wh: int) -> None:
        still_open = [one for one in self.model.transactions if one.active]
        if still_open:
            self._stop(still_open[number % len(still_open)], energy_wh)

    async def do_restop(self, number: int, energy_wh: int) -> None:
        """The station's own stop, after somebody had stopped it by hand."""
        by_hand = [one for one in self.model.transactions if one.stop and one.stop.actor is StopActor.MANUAL]
        if by_hand:
            self._stop(by_hand[number % len(by_hand)], energy_wh)

    def _stop(self, one: Transaction, energy_wh: int) -> None:
        at = max(self.world.clock(), one.start_at + timedelta(minutes=30)).replace(microsecond=0)
        value = str(1_000 + energy_wh)
        self.world.steve.state.add_stop(one.pk, Stop(at=at, value=value, reason="Local", actor=StopActor.STATION))

    async def do_step(self, number: int, energy_wh: int, replica: int) -> None:
        """A running session's meter is read, and billed as far as that; the stop may say less."""
        still_open = [one for one in self.model.transactions if one.active]
        if still_open:
            one = still_open[number % len(still_open)]
            at = max(self.world.clock(), one.start_at + timedelta(minutes=30)).replace(microsecond=0)
            value = str(1_000 + energy_wh)
            reading = MeterValue(at=at, value=value, measurand="Energy.Active.Import.Register", unit="Wh")
            self.world.steve.state.add_meter_values(one.pk, [reading])
            with contextlib.suppress(UpstreamError):
                await self.replicas[replica].progress.bill_running()

    async def do_count(self, replica: int) -> None:
        with contextlib.suppress(UpstreamError):
            await self.replicas[replica].counting.count()

    async def do_relink(self, card: str, subscription: str) -> None:
        at = self.world.clock()
        request = RelinkCard(
            id_tag=card,
            external_customer_id=SUBSCRIPTIONS[subscription],
            external_subscription_id=subscription,
            valid_from=at,
        )
        try:
            async with self.world.service.database.write() as tx:
                await self.world.rooms.links.relink_card(tx, request, ADA)
        except Exception as refused:  # noqa: BLE001 - a Lago that is down refuses, and then nothing has changed
            note(f"relink refused: {refused}")
        else:
            self.model.links[card].append((at, subscription))

    async def do_lago(self, fault: str, count: int, path: str) -> None:
        self.world.lago.faults.add(fault, path=f"/api/v1{path}", count=count)

    async def do_steve(self, fault: str, times: int) -> None:
        self.world.steve.faults.set(fault, times=times)  # type: ignore[arg-type]

    async def do_turn(self, replica: int) -> None:
        with contextlib.suppress(UpstreamError):
            await self.world.turn(self.replicas[replica])

    async def do_both(self) -> None:
        await asyncio.gather(self.do_turn(0), self.do_turn(1))

    async def do_die(self, replica: int, milliseconds: int) -> None:
        """A replica dies in the middle of a turn: nothing after that moment is done, and nothing is tidied up."""
        turn = asyncio.create_task(self.do_turn(replica))
        await asyncio.sleep(milliseconds / 1000)
        turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)

    async def do_later(self, minutes: int) -> None:
        self.world.clock.advance(minutes=minutes)

    async def do_retry(self) -> None:
        """An operator retries what is held: Lago may have failed on one event again and again."""
        async with self.world.service.database.write() as tx:
            await self.world.rooms.held.retry_held(tx, RetryHeld(everything=True), ADA)

    async def settle(self) -> None:
        """The faults are over and time passes: everything that is open ends, is found, and retried where it is held."""
        self.world.lago.faults.clear()
        self.world.steve.faults.clear()
        for one in self.model.transactions:
            if one.active:
                self._stop(one, 500)
        for turn in range(8):
            self.world.clock.advance(minutes=6)
            if turn == 3:
                await self.do_retry()
            for rooms in self.replicas:
                rooms.lago._caller._breaker.succeeded()
                rooms.steve._caller._breaker.succeeded()
                await self.world.turn(rooms)
        await self.replicas[0].counting.count()

    async def check_books(self) -> None:
        """The chain is whole, nothing waits, and each session was told as synced for each of its entries."""
        [row] = await self.world.rows(
            "SELECT count(*) FILTER (WHERE billing = 'counted') AS counted, count(*) AS all FROM sync.session"
        )
        assert row.counted == row.all == len(self.model.transactions)
        entries = await self.world.rows("SELECT usage_event_id, state FROM sync.ledger_entry")
        assert {one.state for one in entries} <= {"counted"}
        for event_type in ("transaction.synced", "transaction.counted"):
            told = [one.data["usage_event_id"] for one in await self.world.events(event_type)]
            assert sorted(told) == sorted(one.usage_event_id for one in entries)
        [stray] = await self.world.rows(
            "SELECT count(*) AS n FROM sync.ledger_entry JOIN sync.session USING (steve_id, transaction_pk)"
            " WHERE state = 'held' AND billing NOT IN ('held', 'ignored')"
        )
        assert stray.n == 0
        sums = await self.world.rows(
            "SELECT s.stop_wh - s.start_wh AS used, sum(e.to_wh - e.from_wh) AS billed FROM sync.session s"
            " JOIN sync.ledger_entry e USING (steve_id, transaction_pk) GROUP BY s.steve_id, s.transaction_pk"
        )
        assert all(one.used == one.billed for one in sums)
