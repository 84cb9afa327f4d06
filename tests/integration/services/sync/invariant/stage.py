"""What a history is played on: a sync of two replicas with its SteVe and its Lago, and a model to agree with."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Final

from deploy.demo.lago.webhooks import Delivery
from services.sync.main import Rooms
from services.sync.upstreams.errors import UpstreamError
from shared.contracts.requests.sync_work import HeldChanged, HeldView, ReleaseHeld, RetryHeld, SearchHeld
from tests.integration.services.sync.conftest import ADA, World
from tests.integration.services.sync.delivering import let_time_pass
from tests.integration.services.sync.invariant import books
from tests.integration.services.sync.invariant.history import SUBSCRIPTIONS
from tests.integration.services.sync.invariant.model import EVER, Model, Policy

WEEK: Final = timedelta(weeks=1)


class Stage:
    def __init__(self, world: World, replicas: Sequence[Rooms], policy: Policy, began: datetime) -> None:
        self.world, self.replicas = world, replicas
        # `week`: when the billing period began that is open now.
        self.week = began + 14 * WEEK
        self.model = Model(policy, SUBSCRIPTIONS, began, self.week)
        self.letters: list[Delivery] = []
        # Webhooks lie here until the history brings them, in its order.
        world.lago.webhooks.url = "http://sync/webhooks/lago"
        world.lago.webhooks._start = self._put_aside  # type: ignore[method-assign]

    def _put_aside(self, delivery: Delivery, url: str) -> None:
        del url
        self.letters.append(delivery)

    async def begin(self) -> None:
        state = self.world.steve.state
        for name, parent in (("CARD-A", None), ("CARD-B", None), ("CHILD", "CARD-A"), ("NEW", None)):
            state.add_tag(name, parent_id_tag=parent)
        for name, subscription in (("CARD-A", "sub_ada"), ("CARD-B", "sub_bob")):
            await self.world.link(name, SUBSCRIPTIONS[subscription], subscription)
            self.model.link(name, subscription, EVER)
        self.model.put_below("CHILD", "CARD-A", EVER)

    async def turn(self, replica: int) -> None:
        rooms = self.replicas[replica]
        with suppress(UpstreamError):
            await rooms.mirror.refresh()
            await rooms.poller.poll()
            await rooms.poller.hold_stuck()
            await rooms.settler.settle()
            await rooms.delivery.deliver()

    async def retry(self, **given: Any) -> HeldChanged:  # noqa: ANN401 - the request's
        async with self.world.service.database.write() as tx:
            return await self.world.rooms.held.retry_held(tx, RetryHeld(**given), ADA)

    async def held(self) -> dict[int, HeldView]:
        page = await self.world.rooms.held.search_held(SearchHeld(limit=200), ADA)
        return {int(one.session.session.removeprefix("main:")): one for one in page.held}

    async def undecided(self) -> dict[int, HeldView]:
        """What is held and was not ignored before: that taking this back bills it has tests of its own."""
        return {pk: one for pk, one in (await self.held()).items() if not self.model.sessions[pk].ignored}

    async def seen(self) -> list[int]:
        return [row.transaction_pk for row in await self.world.rows("SELECT transaction_pk FROM sync.session")]

    async def calm(self) -> None:
        """All is well for a while, and what can be done is done: then the books say what the model says."""
        async with self.well():
            await self.bring_home()
            self.agree(await self.held())

    def agree(self, held: dict[int, HeldView]) -> None:
        for pk, session in self.model.sessions.items():
            if session.one.active and not session.ignored:
                continue
            counted, one = books.of_session(self.world, pk), held.get(pk)
            session.has_wh = counted
            if one is not None and one.reason == "late":
                self.model.found_late(pk, counted)
            verdict = self.model.verdict(session)
            reason = one.reason if one is not None else "ignored" if session.ignored else None
            what = f"{session}: {counted} Wh and {reason}, instead of {verdict}"
            assert counted == verdict.wh, what
            assert reason in (verdict.reasons or {None}), what
            if one is not None and reason != "meter_unreadable":
                assert one.energy_wh == session.wh - counted, f"{what}; {one.energy_wh} Wh wait"

    async def bring_home(self) -> None:
        rooms = self.world.rooms
        self.world.clock.advance(minutes=6)
        await rooms.poller.sweep(_silent, until=lambda: False)
        await self.turn(0)
        await self.retry(everything=True)
        await self.turn(0)
        late = [f"main:{pk}" for pk, one in (await self.held()).items() if one.reason == "late"]
        if late and self.model.policy == "bill_in_current_period":
            # What became late after its event was made is made anew by an operator's word only.
            async with self.world.service.database.write() as tx:
                await rooms.held.release_held(tx, ReleaseHeld(sessions=late), ADA)
            await self.turn(0)
        if await self.world.rows("SELECT FROM sync.ledger_entry WHERE state = 'pending' AND to_wh < from_wh"):
            # What is taken back must be there first: it goes in the turn after.
            await self.turn(0)
        await self._wait_out_slowness()

    async def _wait_out_slowness(self) -> None:
        """On a busy machine Lago may take longer than it is given, though nobody told it to be slow."""
        timed_out = "SELECT FROM sync.ledger_entry WHERE state = 'sending' AND last_error LIKE :what"
        for _ in range(3):
            if not await self.world.rows(timed_out, what="%in time%"):
                return
            self.world.clock.advance(minutes=6)
            await self.turn(0)

    @asynccontextmanager
    async def well(self) -> AsyncIterator[None]:
        """Nothing fails meanwhile; what was to fail does so afterwards."""
        await self.landed()
        lago, steve = self.world.lago.faults, self.world.steve.faults
        theirs = lago.in_force(), list(steve.active)
        lago.clear()
        steve.clear()
        for rooms in self.replicas:
            let_time_pass(rooms.lago._caller._breaker)
            let_time_pass(rooms.steve._caller._breaker)
        try:
            yield
        finally:
            lago._faults[:] = theirs[0]
            steve.replace(theirs[1])

    async def landed(self) -> None:
        """A slow Lago does what it was asked after nobody waits for its answer any more."""
        async with asyncio.timeout(10):
            await asyncio.sleep(0.01)
            while self.world.lago.requests.in_flight:  # noqa: ASYNC110 - it is the simulator's number
                await asyncio.sleep(0.01)


async def _silent(*_: object) -> None:
    """Nobody wants to know."""
