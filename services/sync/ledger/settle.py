"""From a finished session to a ledger entry, or to a hold with its reason."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from services.sync.cards import store as cards
from services.sync.lago.rules import Subscribed
from services.sync.lago.store import subscribed
from services.sync.lago.subscriptions import Subscriptions
from services.sync.ledger import rules, store
from services.sync.ledger.rules import Bill, Chain, Hold, LatePolicy, Settled
from services.sync.links import store as links
from services.sync.links.rules import Owner, resolve
from services.sync.sessions import rules as anomalies
from services.sync.sessions import store as sessions
from services.sync.sessions.rules import Around, Limits, Recorded
from shared.bus.outbox import Outbox
from shared.contracts.event import Event
from shared.contracts.events.sync import TransactionCorrected, TransactionHeld, TransactionReleased
from shared.contracts.identity import Actor, Cause, session_id
from shared.database.engine import Database, Write, after_commit
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

BATCH: Final = 500
# When Lago did not answer about the subscription.
ASK_AGAIN: Final = timedelta(seconds=5)
LONGEST_WAIT: Final = timedelta(minutes=5)
# A hold whose cause can go away by itself is looked at again this often.
RECHECK_EVERY: Final = timedelta(minutes=5)
_OWN: Final = ("owner_customer", "owner_subscription", "owner_id_tag", "owner_at")
_STATE: Final = (
    *_OWN,
    "billing",
    "settle_at",
    "settle_attempts",
    "hold_reason",
    "hold_explanation",
    "held_at",
    "last_seq",
    "billed_wh",
)


@dataclass(frozen=True, slots=True)
class Wait:
    """Lago has to be asked about this subscription first."""

    external_subscription_id: str


Decision = Bill | Hold | Settled | Wait


@dataclass(slots=True)
class _Known:
    """What a batch is decided by."""

    now: datetime
    owners: dict[int, Owner]
    around: dict[int, Any]
    cards: dict[str, Any]
    subscribed: dict[str, Subscribed]


@dataclass(slots=True)
class _Outcome:
    entries: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    waits: set[str] = field(default_factory=set)


class Settler:
    """`deliver` is called when there are new entries."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        subscriptions: Subscriptions,
        *,
        metric_code: str,
        metric_property: str,
        late_policy: LatePolicy,
        limits: Limits,
        subscription_age: timedelta,
        clock: Clock,
        new_id: NewId,
        deliver: Callable[[], None],
    ) -> None:
        self._database, self._outbox, self._subscriptions = database, outbox, subscriptions
        self._code, self._property, self._late_policy, self._limits = metric_code, metric_property, late_policy, limits
        self._age, self._clock, self._new_id, self._deliver = subscription_age, clock, new_id, deliver

    async def settle(self) -> list[tuple[str, int]]:
        """Settle all sessions that are due; returns which."""
        total: list[tuple[str, int]] = []
        while True:
            settled, waits = await self._settle_batch(unknown=frozenset())
            if waits:
                answered = await self._subscriptions.refresh(waits)
                again, _ = await self._settle_batch(unknown=frozenset(waits - answered))
                settled += again
            total += settled
            if len(settled) < BATCH:
                return total

    async def _settle_batch(self, unknown: frozenset[str]) -> tuple[list[tuple[str, int]], set[str]]:
        """Settle up to BATCH sessions; returns which, and the subscriptions that Lago must be asked about first.

        Sessions of `unknown` ones, about which it was asked and did not answer, are put off.
        """
        async with self._database.write() as tx:
            now = self._clock()
            rows = await sessions.due(tx, now, limit=BATCH)
            if not rows:
                return [], set()
            known = await self._gather(tx, rows, now)
            outcome = _Outcome()
            for row in rows:
                self._apply(row, self._decide(row, known), known, unknown, outcome)
            await store.add_entries(tx, outcome.entries)
            await sessions.update_sessions(tx, _STATE, outcome.updates)
            cause = Cause(actor=Actor(kind="system", id="sync"), correlation_id=self._new_id())
            await self._outbox.add_all(tx, outcome.events, cause)
            if outcome.entries:
                after_commit(tx, self._deliver)
        return [(one["steve_id"], one["transaction_pk"]) for one in outcome.updates], outcome.waits

    async def bill_reading(self, steve_id: str, pk: int, wh: int, read_at: datetime) -> int:
        """Bill a running session up to a reading; returns the number of entries made, 0 or 1.

        Whatever stands against it is left to the session's end, which holds it if it has to.
        """
        decision = await self._try_reading(steve_id, pk, wh, read_at)
        if isinstance(decision, Wait) and await self._subscriptions.refresh({decision.external_subscription_id}):
            decision = await self._try_reading(steve_id, pk, wh, read_at)
        return int(isinstance(decision, Bill))

    async def _try_reading(self, steve_id: str, pk: int, wh: int, read_at: datetime) -> Decision:
        async with self._database.write() as tx:
            now = self._clock()
            row = await sessions.locked(tx, steve_id, pk)
            if row is None or row.stopped_at is not None or row.billing != "open":
                return Settled()
            known = await self._gather(tx, [row], now)
            decision, owner = self._decide_reading(row, wh, read_at, known), known.owners.get(pk)
            if isinstance(decision, Bill) and owner is not None:
                seq = row.last_seq + 1
                await store.add_entries(tx, [self._entry(row, decision, owner, seq, now)])
                values = {"steve_id": steve_id, "transaction_pk": pk, "last_seq": seq, "billed_wh": decision.to_wh}
                await sessions.update_sessions(tx, ("last_seq", "billed_wh"), [values])
                after_commit(tx, self._deliver)
        return decision

    def _decide_reading(self, row: Any, wh: int, read_at: datetime, known: _Known) -> Decision:  # noqa: ANN401 - a row of session
        card, owner = known.cards.get(row.id_tag), known.owners.get(row.transaction_pk)
        found = anomalies.find(
            Recorded(row.started_at, row.start_wh, read_at, wh),
            self._around(row, card, known),
            now=known.now,
            limits=self._limits,
        )
        against = _against_card(row, card, owner)
        if found or against is not None or owner is None or row.start_wh is None:
            return Settled()
        subscription = known.subscribed.get(owner.external_subscription_id)
        if subscription is None or known.now - subscription.checked_at > self._age:
            return Wait(owner.external_subscription_id)
        return rules.settle(
            start_wh=row.start_wh,
            to_wh=wh,
            read_at=read_at,
            final=False,
            chain=Chain(row.last_seq, row.billed_wh),
            subscribed=subscription,
            customer=owner.external_customer_id,
            now=known.now,
            late_policy=self._late_policy,
        )

    async def _gather(self, tx: Write, rows: list[Any], now: datetime) -> _Known:
        unowned = [row for row in rows if row.owner_subscription is None]
        ownership = await links.ownership(tx, {row.id_tag for row in unowned})
        owners: dict[int, Owner] = {}
        for row in rows:
            if row.owner_subscription is not None:
                owners[row.transaction_pk] = Owner(row.owner_customer, row.owner_subscription, row.owner_id_tag)
                continue
            found = resolve(row.id_tag, row.started_at, ownership.links, ownership.parents)
            if isinstance(found, Owner):
                owners[row.transaction_pk] = found
        around: dict[int, Any] = {}
        for steve_id in {row.steve_id for row in rows}:
            pks = [row.transaction_pk for row in rows if row.steve_id == steve_id]
            around |= await sessions.around(tx, steve_id, pks, tolerance=anomalies.OVERLAP_TOLERANCE)
        return _Known(
            now=now,
            owners=owners,
            around=around,
            cards=await cards.rows(tx, sorted({row.id_tag for row in rows})),
            subscribed=await subscribed(tx, {one.external_subscription_id for one in owners.values()}),
        )

    def _decide(self, row: Any, known: _Known) -> Decision:  # noqa: ANN401 - a row of session
        card, owner = known.cards.get(row.id_tag), known.owners.get(row.transaction_pk)
        found = anomalies.find(
            Recorded(row.started_at, row.start_wh, row.stopped_at, row.stop_wh),
            self._around(row, card, known),
            now=known.now,
            limits=self._limits,
        )
        # What was billed may turn out to be nothing, and is then taken back.
        passing = {*row.accepted_anomalies, *(["no_energy"] if row.last_seq else [])}
        serious = [one for one in found if one.anomaly not in passing]
        if serious:
            first = serious[0]
            return Hold(first.anomaly, first.explanation, recheck=first.anomaly in {"in_future", "open_too_long"})
        if row.stopped_at is None:
            return Settled()
        if row.start_wh is None or row.stop_wh is None:
            return Hold("meter_unreadable", "Its reading is no number, so there is no energy to bill.")
        against = _against_card(row, card, owner)
        if against is not None or owner is None:
            return against or Hold("card_unlinked", f"Card {row.id_tag} was linked to nobody when it began.")
        subscription = known.subscribed.get(owner.external_subscription_id)
        if subscription is None or known.now - subscription.checked_at > self._age:
            return Wait(owner.external_subscription_id)
        return rules.settle(
            start_wh=row.start_wh,
            to_wh=row.stop_wh,
            read_at=row.stopped_at,
            final=row.stop_actor != "manual",
            chain=Chain(row.last_seq, row.billed_wh),
            subscribed=subscription,
            customer=owner.external_customer_id,
            now=known.now,
            late_policy="bill_in_current_period" if "late" in row.accepted_anomalies else self._late_policy,
        )

    @staticmethod
    def _around(row: Any, card: Any, known: _Known) -> Around:  # noqa: ANN401 - rows
        near = known.around.get(row.transaction_pk)
        overlapping = near.overlapping_pk if near is not None else None
        return Around(
            previous_start_wh=near.previous_start_wh if near is not None else None,
            previous_stop_wh=near.previous_stop_wh if near is not None else None,
            overlaps=session_id(row.steve_id, overlapping) if overlapping is not None else None,
            blocked=card is not None and card.blocked_since is not None and card.blocked_since <= row.started_at,
            verdict=near.verdict if near is not None else None,
            expired=card is not None and card.expiry is not None and card.expiry < row.started_at,
        )

    def _apply(self, row: Any, decision: Decision, known: _Known, unknown: frozenset[str], outcome: _Outcome) -> None:  # noqa: ANN401 - a row of session
        now, owner = known.now, known.owners.get(row.transaction_pk)
        values = {name: getattr(row, name) for name in _STATE}
        values |= {
            "steve_id": row.steve_id,
            "transaction_pk": row.transaction_pk,
            "settle_at": None,
            "settle_attempts": 0,
        }
        if owner is not None and row.owner_subscription is None:
            values |= {
                "owner_customer": owner.external_customer_id,
                "owner_subscription": owner.external_subscription_id,
                "owner_id_tag": owner.id_tag,
                "owner_at": now,
            }
        match decision:
            case Wait(name):
                if name not in unknown:
                    outcome.waits.add(name)
                    return
                pause = min(ASK_AGAIN * 2 ** min(row.settle_attempts, 8), LONGEST_WAIT)
                values |= {"settle_at": now + pause, "settle_attempts": row.settle_attempts + 1}
            case Hold():
                self._hold(row, decision, values, now, outcome)
            case Bill():
                assert owner is not None  # noqa: S101 - nothing is billed to nobody (_decide)
                self._release(row, values, outcome)
                seq = row.last_seq + 1
                values |= {"billing": _after(row), "last_seq": seq, "billed_wh": decision.to_wh}
                outcome.entries.append(self._entry(row, decision, owner, seq, now))
                if row.billed_at is not None and row.stopped_at is not None:
                    outcome.events.append(self._corrected(row, decision, seq))
            case Settled():
                self._release(row, values, outcome)
                values["billing"] = "open" if row.stopped_at is None else "pending"
                if row.stopped_at is not None:
                    # Delivered already, or on its way; the delivery says which.
                    values["billing"] = "synced" if row.billed_at is not None else "pending"
        outcome.updates.append(values)

    def _hold(self, row: Any, hold: Hold, values: dict[str, Any], now: datetime, outcome: _Outcome) -> None:  # noqa: ANN401 - a row of session
        values["settle_at"] = now + RECHECK_EVERY if hold.recheck else None
        again = row.hold_reason == hold.reason
        values |= {
            "billing": "held",
            "hold_reason": hold.reason,
            "hold_explanation": hold.explanation,
            "held_at": row.held_at if again else now,
        }
        if again:
            return
        outcome.events.append(
            TransactionHeld(
                session=session_id(row.steve_id, row.transaction_pk),
                charge_box_id=row.charge_box_id,
                id_tag=row.id_tag,
                reason=hold.reason,
                explanation=hold.explanation,
                energy_wh=waiting_wh(row),
            )
        )

    @staticmethod
    def _release(row: Any, values: dict[str, Any], outcome: _Outcome) -> None:  # noqa: ANN401 - a row of session
        if row.hold_reason is None:
            return
        values |= {"hold_reason": None, "hold_explanation": None, "held_at": None}
        outcome.events.append(
            TransactionReleased(
                session=session_id(row.steve_id, row.transaction_pk),
                charge_box_id=row.charge_box_id,
                id_tag=row.id_tag,
                reason=row.hold_reason,
            )
        )

    @staticmethod
    def _corrected(row: Any, bill: Bill, seq: int) -> TransactionCorrected:  # noqa: ANN401 - a row of session
        return TransactionCorrected(
            session=session_id(row.steve_id, row.transaction_pk),
            charge_box_id=row.charge_box_id,
            id_tag=row.id_tag,
            seq=seq,
            before_wh=bill.from_wh,
            after_wh=bill.to_wh,
        )

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
            "code": self._code,
            "property_name": self._property,
            "charge_box_id": row.charge_box_id,
            "timestamp": bill.timestamp,
            "final": bill.final,
            "created_at": now,
            "state": "pending",
            "due_at": now,
        }


def waiting_wh(row: Any) -> int:  # noqa: ANN401 - a row of session
    """The energy of a session that is not billed, in Wh; 0 where that cannot be told."""
    if row.start_wh is None or row.stop_wh is None:
        return 0
    return int(row.stop_wh - (row.billed_wh if row.billed_wh is not None else row.start_wh))


def _against_card(row: Any, card: Any, owner: Owner | None) -> Hold | None:  # noqa: ANN401 - rows
    if card is None or card.gone_at is not None:
        if owner is not None:
            return None
        return Hold("card_unknown", f"SteVe has no card {row.id_tag}.", recheck=True)
    if owner is None:
        if card.max_active == 0 and card.discovered_at >= row.started_at:
            return Hold(
                "card_unknown", f"Card {row.id_tag} was unknown to SteVe when it began, and is linked to nobody."
            )
        return Hold("card_unlinked", f"Card {row.id_tag} was linked to nobody when it began.")
    if not card.active and "card_inactive" not in row.accepted_anomalies:
        return Hold("card_inactive", f"Card {row.id_tag} is not active.", recheck=True)
    return None


def _after(row: Any) -> str:  # noqa: ANN401 - a row of session
    return "pending" if row.stopped_at is not None else "open"
