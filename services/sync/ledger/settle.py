"""From a finished session to a ledger entry, or to a hold with its reason."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from services.sync.lago.subscriptions import Subscriptions
from services.sync.ledger import rules, store, telling
from services.sync.ledger.decide import Decision, Ignored, Known, Terms, Wait, decide, decide_reading, gather, key
from services.sync.ledger.held_store import NOT_HELD
from services.sync.ledger.opening import Opening
from services.sync.ledger.rules import NOT_SET_UP, Bill, Hold, Settled
from services.sync.ledger.store import Key, Part
from services.sync.links.rules import Owner
from services.sync.sessions import store as sessions
from services.sync.sessions.chain import by_itself
from services.sync.sessions.rules import unbilled
from shared.bus.outbox import Outbox
from shared.contracts.events.sync import TransactionEvent
from shared.contracts.identity import Actor, session_id
from shared.database.engine import Database, Write, after_commit, is_busy, is_unavailable
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger

log = get_logger(__name__)

SYNC: Final = Actor(kind="system", id="sync")
BATCH: Final = 500
# When Lago did not answer about the subscription, or the database was busy with other work.
ASK_AGAIN: Final = timedelta(seconds=5)
LONGEST_WAIT: Final = timedelta(minutes=5)
# After so many pauses, a quarter of an hour in all, a session that the database was too busy for is held.
MOST_TRIES: Final = 8
# A hold whose cause can go away by itself is looked at again this often.
RECHECK_EVERY: Final = timedelta(minutes=5)
# All of a backlog may be held for that, and is woken when Lago is set up.
SLEEP: Final = timedelta(hours=1)
_OWN: Final = ("owner_customer", "owner_subscription", "owner_id_tag", "owner_at")
_STATE: Final = (
    *_OWN,
    "billing",
    "settle_at",
    "settle_attempts",
    "busy_tries",
    "hold_reason",
    "hold_explanation",
    "held_at",
    "last_seq",
    "billed_wh",
)


@dataclass(slots=True)
class _Outcome:
    entries: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    events: list[TransactionEvent] = field(default_factory=list)
    waits: set[str] = field(default_factory=set)
    settled: list[Key] = field(default_factory=list)


class Settler:
    """`deliver` is called when there are new entries."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        subscriptions: Subscriptions,
        opening: Opening,
        *,
        terms: Terms,
        clock: Clock,
        deliver: Callable[[], None],
    ) -> None:
        self._database, self._outbox, self._subscriptions = database, outbox, subscriptions
        self._opening, self._terms, self._clock, self._deliver = opening, terms, clock, deliver

    async def settle(
        self, until: Callable[[], bool] = lambda: False, settled_some: Callable[[list[Key]], None] = lambda _: None
    ) -> int:
        """Settle all sessions that are due, or some, where `until()` says that it is enough; returns how many, and says
        which from batch to batch.
        """
        total = 0
        while True:
            await self._opening.ask()
            settled, waits = await self._settle_batch(unknown=frozenset())
            if waits:
                await self._subscriptions.refresh(waits)
                # What still waits is put off as well: asked again at once, Lago would say the same.
                again, _ = await self._settle_batch(unknown=frozenset(waits))
                settled += again
            total += len(settled)
            settled_some(settled)
            if len(settled) < BATCH or until():
                return total

    async def _settle_batch(self, unknown: frozenset[str]) -> tuple[list[tuple[str, int]], set[str]]:
        """Settle up to BATCH sessions; returns which, and the subscriptions that Lago must be asked about first.

        Sessions that wait for `unknown` ones, about which it has just been asked, are put off: it did not answer, or
        does not tell yet of the period that they fall into.
        """
        try:
            return await self._settle_due(unknown)
        except Exception as error:
            if is_unavailable(error):
                raise
            log.exception("Sessions could not be settled together, and are settled one by one.", action="settle.apart")
        return await self._one_by_one(unknown)

    async def _one_by_one(self, unknown: frozenset[str]) -> tuple[list[Key], set[str]]:
        """One that fails keeps nobody else's from being billed: it is held, and tried again later. One in whose way
        other work was is put off; nothing is wrong with it, unless that goes on.
        """
        async with self._database.read() as tx:
            due = await sessions.due_keys(tx, self._clock(), limit=BATCH)
        settled: list[Key] = []
        waits: set[str] = set()
        for one in due:
            try:
                done, ask = await self._settle_due(unknown, only=one)
            except Exception as error:
                if is_unavailable(error):
                    raise
                if is_busy(error):
                    what = str(error.__cause__ or error)
                    log.warning("A session waits.", action="settle.busy", session=session_id(*one), error=what)
                    settled += await self._put_off(one, error)
                    continue
                log.exception("A session could not be settled.", action="settle.failed", session=session_id(*one))
                await self._set_aside(one, error)
                done, ask = [one], set()
            settled += done
            waits |= ask
        return settled, waits

    async def _put_off(self, which: Key, error: Exception) -> list[Key]:
        """Once too often, it is held as one that fails, and returned: what is too slow by itself always looks busy."""
        async with self._database.write() as tx:
            now = self._clock()
            for row in await sessions.due(tx, now, limit=1, only=which):
                if row.busy_tries >= MOST_TRIES:
                    await self._fail(tx, row, error, now)
                    return [which]
                values = _later(row, now, tries=row.busy_tries) | {"busy_tries": row.busy_tries + 1}
                key = {"steve_id": which[0], "transaction_pk": which[1]}
                await sessions.update_sessions(tx, tuple(values), [key | values])
        return []

    async def _set_aside(self, which: Key, error: Exception) -> None:
        async with self._database.write() as tx:
            now = self._clock()
            await self._fail(tx, await sessions.locked(tx, *which), error, now)

    async def _fail(self, tx: Write, row: Any, error: Exception, now: datetime) -> None:  # noqa: ANN401 - a row of session
        what = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        values = {name: getattr(row, name) for name in _STATE}
        values |= {
            "steve_id": row.steve_id,
            "transaction_pk": row.transaction_pk,
            "settle_at": now + RECHECK_EVERY,
        }
        outcome = _Outcome()
        if row.billing not in {"held", "ignored"}:
            failed = Hold("settling_failed", f"It could not be settled: {what}.", recheck=True)
            self._hold(row, failed, values, now, outcome)
        await sessions.update_sessions(tx, _STATE, [values])
        await self._outbox.add_each(tx, by_itself(outcome.events, SYNC))

    async def _settle_due(self, unknown: frozenset[str], only: Key | None = None) -> tuple[list[Key], set[str]]:
        async with self._database.write() as tx:
            now = self._clock()
            rows = await sessions.due(tx, now, limit=BATCH, only=only)
            if not rows:
                return [], set()
            known = await gather(tx, rows, now)
            outcome = _Outcome()
            for row in rows:
                self._apply(row, self._opening.let(decide(row, known, self._terms)), known, unknown, outcome)
            await store.add_entries(tx, outcome.entries)
            await sessions.update_sessions(tx, _STATE, outcome.updates)
            await store.mark_billed(tx, outcome.settled)
            await self._outbox.add_each(tx, by_itself(outcome.events, SYNC))
            if outcome.entries:
                after_commit(tx, self._deliver)
            if any(one["hold_reason"] == NOT_SET_UP for one in outcome.updates):
                after_commit(tx, self._opening.some_sleep)
        return [(one["steve_id"], one["transaction_pk"]) for one in outcome.updates], outcome.waits

    async def bill_reading(self, steve_id: str, pk: int, wh: int, read_at: datetime) -> int:
        """Bill a running session up to a reading; returns the number of entries made, 0 or 1.

        Whatever stands against it is left to the session's end, which holds it if it has to.
        """
        await self._opening.ask()
        decision = await self._try_reading(steve_id, pk, wh, read_at)
        about = decision.external_subscription_id if isinstance(decision, Wait) else None
        if about is not None and await self._subscriptions.refresh({about}):
            decision = await self._try_reading(steve_id, pk, wh, read_at)
        return int(isinstance(decision, Bill))

    async def _try_reading(self, steve_id: str, pk: int, wh: int, read_at: datetime) -> Decision:
        async with self._database.write() as tx:
            now = self._clock()
            row = await sessions.locked(tx, steve_id, pk)
            if row is None or row.stopped_at is not None or row.billing != "open":
                return Settled()
            known = await gather(tx, [row], now)
            decision = self._opening.let(decide_reading(row, wh, read_at, known, self._terms))
            owner = known.owners.get(key(row))
            if isinstance(decision, Bill) and owner is not None:
                seq = row.last_seq + 1
                await store.add_entries(tx, [self._entry(row, decision, owner, seq, now)])
                values = {"steve_id": steve_id, "transaction_pk": pk, "last_seq": seq, "billed_wh": decision.to_wh}
                await sessions.update_sessions(tx, ("last_seq", "billed_wh"), [values])
                after_commit(tx, self._deliver)
        return decision

    def _apply(self, row: Any, decision: Decision, known: Known, unknown: frozenset[str], outcome: _Outcome) -> None:  # noqa: ANN401 - a row of session
        now, owner = known.now, known.owners.get(key(row))
        # What somebody ignored is held for that alone: a retry of those that are stuck would send what they did not
        # want sent.
        stuck = known.stuck_by(row) if row.ignored_wh is None else None
        values = {name: getattr(row, name) for name in _STATE}
        values |= {
            "steve_id": row.steve_id,
            "transaction_pk": row.transaction_pk,
            "settle_at": None,
            **sessions.NOT_PUT_OFF,
            **_newly_owned(row, owner, now),
        }
        match decision:
            case Wait(str(name)) if name not in unknown:
                outcome.waits.add(name)
                return
            case Wait():
                values |= _later(row, now, tries=row.settle_attempts) | {"busy_tries": row.busy_tries}
            case Hold():
                # Of an entry that is held is told first; what stands against the rest is found when that is retried.
                if stuck is None:
                    self._hold(row, decision, values, now, outcome, energy_wh=known.held_wh(row) + waiting_wh(row))
            case Ignored():
                self._ignore(row, values, outcome, energy_wh=known.held_wh(row) + waiting_wh(row))
            case Bill():
                assert owner is not None  # noqa: S101 - nothing is billed to nobody (decide)
                self._bill(row, decision, owner, values, outcome, stuck=stuck, now=now)
            case Settled():
                if stuck is None:
                    self._release(row, values, outcome)
                    outcome.settled.append(key(row))
        if stuck is not None and row.billing != "held" and not isinstance(decision, Wait):
            # What is billed now goes by itself, unless it takes something back: that waits with what is held.
            goes = isinstance(decision, Bill) and decision.to_wh >= decision.from_wh
            waits_wh = known.held_wh(row) + (0 if goes else waiting_wh(row))
            self._hold(row, _held_for(stuck), values, now, outcome, energy_wh=waits_wh)
        outcome.updates.append(values)

    def _bill(
        self,
        row: Any,  # noqa: ANN401 - a row of session
        bill: Bill,
        owner: Owner,
        values: dict[str, Any],
        outcome: _Outcome,
        *,
        stuck: Part | None,
        now: datetime,
    ) -> None:
        seq = row.last_seq + 1
        values |= {"last_seq": seq, "billed_wh": bill.to_wh}
        entry = self._entry(row, bill, owner, seq, now)
        if stuck is not None and bill.to_wh < bill.from_wh:
            # It takes back what Lago does not have, and waits with that.
            entry |= {"state": "held", "hold_reason": stuck.hold_reason}
        outcome.entries.append(entry)
        if row.billed_at is not None and row.stopped_at is not None:
            outcome.events.append(telling.corrected(row, bill, seq))
        if stuck is None:
            self._release(row, values, outcome)

    def _hold(
        self,
        row: Any,  # noqa: ANN401 - a row of session
        hold: Hold,
        values: dict[str, Any],
        now: datetime,
        outcome: _Outcome,
        *,
        energy_wh: int | None = None,
    ) -> None:
        every = SLEEP if hold.reason == NOT_SET_UP else RECHECK_EVERY
        values["settle_at"] = now + every if hold.recheck else None
        again = row.hold_reason == hold.reason
        values |= {
            "billing": "held",
            "hold_reason": hold.reason,
            "hold_explanation": hold.explanation,
            "held_at": row.held_at if again else now,
        }
        if again:
            return
        waits_wh = energy_wh if energy_wh is not None else waiting_wh(row)
        outcome.events.append(telling.held(row, hold.reason, hold.explanation, waits_wh))

    @staticmethod
    def _ignore(row: Any, values: dict[str, Any], outcome: _Outcome, *, energy_wh: int) -> None:  # noqa: ANN401 - a row of session
        values["billing"] = "ignored"
        if row.hold_reason is None:
            return
        values |= NOT_HELD
        outcome.events.append(telling.ignored(row, energy_wh))

    @staticmethod
    def _release(row: Any, values: dict[str, Any], outcome: _Outcome) -> None:  # noqa: ANN401 - a row of session
        values["billing"] = unbilled(stopped=row.stopped_at is not None)
        if row.hold_reason is None:
            return
        values |= NOT_HELD
        outcome.events.append(telling.released(row))

    def _entry(self, row: Any, bill: Bill, owner: Owner, seq: int, now: datetime) -> dict[str, Any]:  # noqa: ANN401 - a row of session
        return {
            "steve_id": row.steve_id,
            "transaction_pk": row.transaction_pk,
            "seq": seq,
            "previous_seq": seq - 1 or None,
            "from_wh": bill.from_wh,
            "to_wh": bill.to_wh,
            "usage_event_id": rules.usage_event_id(row.steve_id, row.transaction_pk, seq),
            "external_customer_id": owner.external_customer_id,
            "external_subscription_id": owner.external_subscription_id,
            **self._terms.metric._asdict(),
            "charge_box_id": row.charge_box_id,
            "timestamp": bill.timestamp,
            "period_to": bill.period_to,
            "final": bill.final,
            "created_at": now,
            "state": "pending",
            "hold_reason": None,
            "due_at": now,
        }


def _newly_owned(row: Any, owner: Owner | None, now: datetime) -> dict[str, Any]:  # noqa: ANN401 - a row of session
    if owner is None or row.owner_subscription is not None:
        return {}
    whose = (owner.external_customer_id, owner.external_subscription_id, owner.id_tag, now)
    return dict(zip(_OWN, whose, strict=True))


def _later(row: Any, now: datetime, *, tries: int) -> dict[str, Any]:  # noqa: ANN401 - a row of session
    """Due again after a pause, a longer one the more tries there were."""
    pause = min(ASK_AGAIN * 2 ** min(tries, 8), LONGEST_WAIT)
    return {"settle_at": now + pause, "settle_attempts": row.settle_attempts + 1}


def _held_for(part: Part) -> Hold:
    """What its session is held for while it is held."""
    assert part.hold_reason is not None  # noqa: S101 - the database has it so
    return Hold(part.hold_reason, part.last_error or "Its usage event is held.")


def waiting_wh(row: Any) -> int:  # noqa: ANN401 - a row of session
    """The energy of a session that is not billed, in Wh; 0 where that cannot be told."""
    if row.start_wh is None or row.stop_wh is None:
        return 0
    return int(row.stop_wh - (row.billed_wh if row.billed_wh is not None else row.start_wh))
