"""What happens in Lago while a history is played: subscriptions and periods end, it tells of it, others write to it."""

from datetime import timedelta
from typing import Any, Final

import httpx
from starlette.applications import Starlette

from deploy.demo.lago import lifecycle
from deploy.demo.lago.model import Event
from deploy.demo.lago.values import to_datetime
from deploy.demo.lago.webhooks import Delivery
from services.sync.main import Rooms
from tests.integration.services.sync.invariant import books
from tests.integration.services.sync.invariant.history import SUBSCRIPTIONS
from tests.integration.services.sync.invariant.model import Session
from tests.integration.services.sync.invariant.stage import WEEK, Stage

METRIC: Final = "ev_charging_kwh"
# For so long Lago's word about a subscription is believed: nothing is sent sooner after one ended unheard.
BELIEVED: Final = timedelta(minutes=3)


class InLago(Stage):
    async def do_end(self, subscription: str, how: str, told: bool) -> None:  # noqa: FBT001 - a history's word
        """It ends, is replaced by one of the same name on another plan, or is gone, as with its customer."""
        mine = self.model.subscriptions[subscription]
        if mine.ended_at is not None or mine.gone:
            return
        await self._before_lago_closes()
        state, had, letters = self.world.lago.state, books.of_subscription(self.world, subscription), len(self.letters)
        self.model.close(subscription, had, for_good=how != "gone")
        if how == "end":
            ended = lifecycle.terminate(state, subscription).terminated_us
            assert ended is not None
            # Lago tells whole seconds.
            mine.ended_at = to_datetime(ended).replace(microsecond=0)
        elif how == "replace":
            started = lifecycle.upgrade(state, subscription, "other").started_us
            assert started is not None
            mine.started_at = mine.open_since = to_datetime(started)
            mine.replaced = True
        else:
            self._active(subscription).status = "canceled"
            mine.gone = True
        if told and letters < len(self.letters):
            for letter in reversed(self.letters[letters:]):
                await self._bring(letter, self.replicas[0])
        else:
            self.world.clock.advance(seconds=BELIEVED.total_seconds())

    async def do_back(self, subscription: str) -> None:
        """One that was gone is there again."""
        if self.model.subscriptions[subscription].gone:
            self._return(subscription)
            self.model.subscriptions[subscription].gone = False
            self.world.clock.advance(seconds=BELIEVED.total_seconds())

    async def do_period(self) -> None:
        """Days pass: the week is over, and its invoices are final."""
        await self._before_lago_closes()
        for name, one in self.model.subscriptions.items():
            if one.ended_at is None:
                self.model.close(name, books.of_subscription(self.world, name))
                one.open_since = self.week + WEEK
        self.week += WEEK
        self.world.clock.advance(seconds=(self.week - self.world.clock()).total_seconds() + 600)

    async def _before_lago_closes(self) -> None:
        if self.world.steve.state.meter_values:
            # Only sync knows whether a reading became an event, which is too late then, or comes with the stop.
            await self.calm()
        await self.landed()
        # Lago tells whole seconds: what comes within that of an end is not known to have come before it.
        self.world.clock.advance(seconds=1)

    def _active(self, subscription: str) -> Any:  # noqa: ANN401 - the simulator's
        found = self.world.lago.state.find_subscription(subscription)
        assert found is not None
        return found

    def _return(self, subscription: str) -> None:
        gone = self.world.lago.state.find_subscription(subscription, "canceled")
        assert gone is not None
        gone.status = "active"
        self.world.lago.state.save(gone)

    async def do_foreign(self, number: int) -> None:
        """Somebody else sends an event under the id of a session's first one. ClickHouse would take ours as well."""
        state = self.world.lago.state
        made = {row.transaction_pk for row in await self.world.rows("SELECT transaction_pk FROM sync.ledger_entry")}
        free = [one for pk, one in self.model.sessions.items() if pk not in made and one.foreign is None]
        if not free or state.events.kind == "clickhouse":
            return
        session = free[number % len(free)]
        session.foreign = self.model.payer(session) or "sub_ada"
        await self.landed()
        event = Event(
            transaction_id=f"steve:main:{session.one.pk}:1",
            external_subscription_id=session.foreign,
            code=books.FOREIGN,
            timestamp_us=state.now_us(),
            properties={"kwh": "1.000"},
            created_us=state.now_us(),
        )
        if state.events.duplicates([event]):
            session.foreign = None
            return
        state.add_events([event])

    async def do_clear(self, number: int) -> None:
        """It is gone again: Lago's operator took it out of the database."""
        theirs = [one for one in self.model.sessions.values() if one.foreign is not None]
        if theirs:
            self._clear(theirs[number % len(theirs)])

    def _clear(self, session: Session) -> None:
        events = self.world.lago.state.events
        event = events.find(f"steve:main:{session.one.pk}:1", session.foreign)
        assert event is not None
        assert books.is_foreign(event)
        events._forget(event.seq)
        events._by_key.pop(events._key(event))
        session.foreign = None

    async def do_refused(self, replica: int, known: int | None = None) -> None:
        """Somebody gave the metric an expression that nothing is sent for: what is on its way is refused, until that
        is repaired. `known`: so many are then, where a history that is told in full can tell.
        """
        metric = self.world.lago.state.metrics[METRIC]
        metric.expression = "event.properties.unsent"
        await self.turn(replica)
        await self.landed()
        if known is not None:
            refused = "SELECT FROM sync.ledger_entry WHERE state = 'held' AND hold_reason = 'lago_refused'"
            assert len(await self.world.rows(refused)) == known
        metric.expression = None

    async def do_webhook(self, number: int, replica: int) -> None:
        """Lago tells of something that happened: late, again, after what came later, or of some things never."""
        if self.letters:
            await self._bring(self.letters[number % len(self.letters)], self.replicas[replica])

    async def do_news(self, subscription: str) -> None:
        customer = self.world.lago.state.customers[SUBSCRIPTIONS[subscription]]
        self.world.lago.webhooks.notify("customer.updated", customer)

    async def _bring(self, letter: Delivery, rooms: Rooms) -> None:
        headers = {
            "X-Lago-Signature": self.world.lago.webhooks.signer.sign(letter.body, "hmac"),
            "X-Lago-Signature-Algorithm": "hmac",
            "X-Lago-Unique-Key": letter.unique_key,
        }
        transport = httpx.ASGITransport(Starlette(routes=[rooms.intake.route()]))
        async with httpx.AsyncClient(transport=transport, base_url="http://sync") as client:
            answer = await client.post("/webhooks/lago", content=letter.body, headers=headers)
        assert answer.status_code == 200, answer.text
        await rooms.dispatch.dispatch()

    async def do_follow(self, replica: int) -> None:
        """Sync asks whether subscriptions that cards are linked to have ended. Of one that is gone it asks twice."""
        if any(one.gone for one in self.model.subscriptions.values()):
            return
        async with self.well():
            self.model.seen(await self.seen())
            self.world.clock.advance(minutes=11)
            await self.replicas[replica].follow.follow()
            for name, one in self.model.subscriptions.items():
                if one.ended_at is not None:
                    self.model.end_links(name, one.ended_at, self.world.clock())
