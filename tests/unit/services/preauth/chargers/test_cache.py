"""A charger forgets the Blocked of a scan."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from services.preauth.chargers.cache import AT_ONCE, CacheCleaner
from shared.bus.requests import NoAnswerError
from shared.contracts.identity import Actor
from shared.contracts.requests.sync import OperateCharger, OperationOutcome, OperationResult

AT = datetime(2026, 5, 1, 10, tzinfo=UTC)


@dataclass
class Sync:
    outcome: OperationOutcome | None = "accepted"
    asked: list[str] = field(default_factory=list)
    hang: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    connected: bool = True
    at_once: int = 0
    most_at_once: int = 0

    async def ask(
        self, request: OperateCharger, *, actor: Actor, correlation_id: UUID, deadline_s: float, key: str
    ) -> OperationResult:
        assert (request.operation, actor.kind) == ("ClearCache", "system")
        assert str(correlation_id) in key
        self.asked.append(request.charge_box_id)
        if request.charge_box_id in self.breaks:
            raise ValueError("nobody foresaw this")
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(deadline_s if request.charge_box_id in self.hang else 0)
        finally:
            self.at_once -= 1
        if self.outcome is None:
            raise NoAnswerError(request.name, request.owner, "no reply")
        return OperationResult(
            charge_box_id=request.charge_box_id, operation=request.operation, outcome=self.outcome, asked_at=AT
        )

    async def until(self, asked: list[str]) -> None:
        async with asyncio.timeout(5):
            while self.asked != asked:  # noqa: ASYNC110 - a list has no event
                await asyncio.sleep(0.002)


@asynccontextmanager
async def cleaning(sync: Sync) -> AsyncIterator[CacheCleaner]:
    cleaner = CacheCleaner(sync, clock=lambda: AT, new_id=uuid4, pause_s=0)
    stop = asyncio.Event()
    task = asyncio.create_task(cleaner.run(stop))
    yield cleaner
    stop.set()
    async with asyncio.timeout(1):
        await task


async def test_each_charger_is_asked_once_in_order() -> None:
    """Each charger that was told Blocked is asked once to clear its cache, in order, however often it was told."""
    sync = Sync()
    async with cleaning(sync) as cleaner:
        for name in ("B", "B", "D"):
            cleaner.blocked(name)
        await sync.until(["B", "D"])


async def test_what_nobody_foresaw_at_one_charger_keeps_no_other_waiting() -> None:
    """Asking about some goes wrong in a way that is not known: it is logged, and the others are asked all the same."""
    sync = Sync(breaks=("A", "B", "C", "D"))
    async with cleaning(sync) as cleaner:
        for name in ("A", "B", "C", "D", "E"):
            cleaner.blocked(name)
        await sync.until(["A", "B", "C", "D", "E"])


@pytest.mark.parametrize(
    ("outcome", "again"),
    [("rejected", False), ("failed", True), ("not_connected", True), ("unknown", True), (None, True)],
)
async def test_charger_that_cannot_is_left_alone(outcome: OperationOutcome | None, again: bool) -> None:  # noqa: FBT001
    """One that refuses is not asked again for a day; one that did not answer, or that SteVe did not ask, is asked the
    next time.
    """
    sync = Sync(outcome=outcome)
    async with cleaning(sync) as cleaner:
        cleaner.blocked("CP")
        await sync.until(["CP"])
        await asyncio.sleep(0.01)
        cleaner.blocked("CP")
        cleaner.blocked("OTHER")
        await sync.until(["CP", "CP", "OTHER"] if again else ["CP", "OTHER"])


async def test_a_slow_charger_holds_up_no_other() -> None:
    """While one takes its time, the others are asked, but only a few at once: sync has others to answer."""
    sync, names = Sync(hang=("SLOW", "SLOWER", "STUCK")), [f"CP-{n}" for n in range(5)]
    async with cleaning(sync) as cleaner:
        for name in ("SLOW", "SLOWER", *names, "STUCK", "BEHIND"):
            cleaner.blocked(name)
        await sync.until(["SLOW", "SLOWER", *names, "STUCK"])
        await asyncio.sleep(0.02)
        assert (sync.at_once, sync.most_at_once) == (AT_ONCE, AT_ONCE)


async def test_stop_does_not_wait_for_a_charger() -> None:
    """A charger that takes its time does not hold up the end of the process."""
    sync = Sync(hang=("CP",))
    async with cleaning(sync) as cleaner:
        cleaner.blocked("CP")
        await sync.until(["CP"])
