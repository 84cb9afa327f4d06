"""What SteVe recorded becomes sessions: new ones, stopped ones, and stops that changed."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from services.sync.cards import store as cards
from services.sync.cards.mirror import Mirror
from services.sync.cards.rules import had_expired, was_blocked
from services.sync.links import store as links
from services.sync.links.rules import Owner, resolve
from services.sync.sessions import store
from services.sync.sessions.chain import by_itself
from services.sync.sessions.identity import compare
from services.sync.sessions.rules import unbilled, used_wh
from services.sync.steve.models import Transaction
from shared.bus.outbox import Outbox
from shared.contracts.events.sync import TransactionEvent, TransactionStarted, TransactionStopped
from shared.contracts.identity import Actor, session_id
from shared.database.engine import Database, Read, Write, after_commit
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger

log = get_logger(__name__)

STEVE: Final = Actor(kind="upstream", id="steve")
STOP: Final = ("stopped_at", "stop_wh", "stop_reason", "stop_actor")
# What may be corrected in SteVe; all else about a transaction stays as it was.
RECORDED: Final = ("start_wh", *STOP)
_CHANGED: Final = (*RECORDED, "observation", "changed_at", "billing", "settle_at", "accepted_anomalies")
# What was let pass that other readings do not touch: it is about the card, and about when it is billed.
STILL_PASSES: Final = frozenset({"late", "card_inactive"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What SteVe answered; `after` is the last observation that had begun when it was asked."""

    transactions: Sequence[Transaction]
    after: int


@dataclass(slots=True)
class Observed:
    """What one reading brought. `doubtful` are sessions of which it is not known whether it was news: the answer says
    something else than one that was written down since SteVe was asked.
    """

    new: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    doubtful: list[int] = field(default_factory=list)
    seen: int = 0

    def news(self) -> list[int]:
        """Sessions that were not known, or not like this."""
        return [*self.new, *self.changed]


class Observer:
    """`settle` is called when there is something to settle."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        mirror: Mirror,
        *,
        steve_id: str,
        clock: Clock,
        settle: Callable[[], None],
    ) -> None:
        self._database, self._outbox, self._mirror, self._settle = database, outbox, mirror, settle
        self._steve_id, self._clock = steve_id, clock

    async def ask(self, question: Callable[[], Awaitable[Sequence[Transaction]]]) -> Answer:
        """Put a question to SteVe whose answer is to be observed."""
        async with self._database.read() as tx:
            after = await store.last_observation(tx)
        return Answer(await question(), after)

    async def observe(self, answer: Answer, *, asked: Sequence[int] = ()) -> Observed:
        """Write down what SteVe answered, unless that may be older than what was written down since it was asked.

        :param asked: ids past the cursor that were asked for: what is missing among them below the highest one found
            is a gap, to be asked for again.
        :raises AnotherSteveError: nothing was written.
        """
        transactions = answer.transactions
        await self._fetch_missing_cards(transactions)
        async with self._database.write() as tx:
            number = await store.begin_observation(tx, self._steve_id)
            observed = await self._write(tx, answer, number)
            if asked and transactions:
                await self._move_cursor(tx, transactions, asked)
            if observed.news():
                after_commit(tx, self._settle)
        return observed

    async def _fetch_missing_cards(self, transactions: Sequence[Transaction]) -> None:
        """A card's first session may come before the mirror's next look, and that of another tag under its idTag, too.
        Without SteVe's answer it comes later.
        """
        wanted = {one.id_tag for one in transactions}
        if wanted:
            async with self._database.read() as tx:
                there = await cards.rows(tx, sorted(wanted))
                missing = {one.id_tag for one in transactions if not _is_of(one, there.get(one.id_tag))}
                known = await store.by_pk(tx, self._steve_id, [one.pk for one in transactions]) if missing else {}
            # No card is taken from another SteVe either.
            for one in transactions:
                if one.pk in known:
                    compare(self._steve_id, known[one.pk], one)
            await self._mirror.fetch(sorted(missing))

    async def _write(self, tx: Write, answer: Answer, number: int) -> Observed:
        now, transactions = self._clock(), answer.transactions
        known = await store.by_pk(tx, self._steve_id, [one.pk for one in transactions])
        new = [one for one in transactions if one.pk not in known]
        observed = Observed(new=[one.pk for one in new], seen=len(transactions))
        events: list[TransactionEvent] = []
        owners = await self._owners(tx, new)
        mirrored = await cards.rows(tx, sorted({one.id_tag for one in new})) if new else {}
        await store.insert_sessions(
            tx, [self._row(one, owners.get(one.pk), mirrored.get(one.id_tag), number, now) for one in new]
        )
        events += [self._told(one) for one in new]
        updates = []
        for one in transactions:
            if one.pk in known:
                compare(self._steve_id, known[one.pk], one)
        other = [one for one in transactions if one.pk in known and _differs(known[one.pk], one)]
        # A number that is still to come was drawn in another database.
        written_since = {one.pk for one in other if answer.after < known[one.pk].observation < number}
        observed.doubtful += sorted(written_since)
        changed = [one for one in other if one.pk not in written_since]
        # Who settles, delivers or releases them meanwhile comes before or after.
        rows = await store.lock_by_pk(tx, self._steve_id, [one.pk for one in changed])
        for one in changed:
            row = rows[one.pk]
            observed.changed.append(one.pk)
            recorded = _recorded(one)
            # A held session stays held until it has been settled again, and an ignored one ignored while its energy is
            # the one that was ignored.
            ignored = row.billing == "ignored" and _used_wh(recorded) == row.ignored_wh
            billing = row.billing if row.billing == "held" or ignored else unbilled(stopped=one.stopped)
            values = {
                "observation": number,
                "changed_at": now,
                "billing": billing,
                "settle_at": None if ignored else now,
                "accepted_anomalies": _still_accepted(row, recorded),
            }
            updates.append({**recorded, **values, **self._key(one.pk)})
            if one.stopped:
                events.append(self._told(one))
        await store.update_sessions(tx, _CHANGED, updates)
        await self._outbox.add_each(tx, by_itself(events, STEVE))
        return observed

    async def _owners(self, tx: Read, new: Sequence[Transaction]) -> dict[int, Owner]:
        ownership = await links.ownership(tx, {one.id_tag for one in new})
        found = {one.pk: resolve(one.id_tag, one.start_timestamp, ownership.links, ownership.parents) for one in new}
        return {pk: owner for pk, owner in found.items() if isinstance(owner, Owner)}

    def _key(self, pk: int) -> dict[str, Any]:
        return {"steve_id": self._steve_id, "transaction_pk": pk}

    def _row(
        self,
        one: Transaction,
        owner: Owner | None,
        card: Any,  # noqa: ANN401 - a row of card, or None
        number: int,
        now: datetime,
    ) -> dict[str, Any]:
        return {
            "steve_id": self._steve_id,
            "transaction_pk": one.pk,
            "charge_box_id": one.charge_box_id,
            "connector_id": one.connector_id,
            "id_tag": one.id_tag,
            "id_tag_as_sent": one.ocpp_id_tag,
            "started_at": one.start_timestamp,
            **_recorded(one),
            "first_seen_at": now,
            "changed_at": now,
            "observation": number,
            "owner_customer": owner.external_customer_id if owner else None,
            "owner_subscription": owner.external_subscription_id if owner else None,
            "owner_id_tag": owner.id_tag if owner else None,
            "owner_at": now if owner else None,
            "card_blocked": was_blocked(card, one.start_timestamp) if card is not None else None,
            "card_expired": had_expired(card, one.start_timestamp) if card is not None else None,
            "billing": unbilled(stopped=one.stopped),
            "settle_at": now if one.stopped else None,
        }

    def _told(self, one: Transaction) -> TransactionEvent:
        """A session first seen finished has only its `transaction.stopped`, which says when it began."""
        session = session_id(self._steve_id, one.pk)
        if one.stop_timestamp is None:
            return TransactionStarted(
                session=session,
                charge_box_id=one.charge_box_id,
                connector_id=one.connector_id,
                id_tag=one.id_tag,
                started_at=one.start_timestamp,
                start_wh=one.start_wh,
            )
        return TransactionStopped(
            session=session,
            charge_box_id=one.charge_box_id,
            connector_id=one.connector_id,
            id_tag=one.id_tag,
            started_at=one.start_timestamp,
            stopped_at=one.stop_timestamp,
            start_wh=one.start_wh,
            stop_wh=one.stop_wh,
            stop_reason=one.stop_reason,
            provisional=one.stop_event_actor == "manual",
        )

    async def _move_cursor(self, tx: Write, transactions: Sequence[Transaction], asked: Sequence[int]) -> None:
        now = self._clock()
        found = {one.pk for one in transactions}
        highest = max(found)
        await store.move_cursor(tx, self._steve_id, highest, now)
        await store.add_gaps(tx, self._steve_id, [pk for pk in asked if pk < highest and pk not in found], now)


def _is_of(one: Transaction, card: Any) -> bool:  # noqa: ANN401 - a row of card, or None
    """Whether it was made with the tag that the mirror has."""
    return card is not None and one.ocpp_tag_pk in {None, card.ocpp_tag_pk}


def _differs(row: Any, one: Transaction) -> bool:  # noqa: ANN401 - a row of session
    return any(getattr(row, column) != value for column, value in _recorded(one).items())


def _still_accepted(row: Any, recorded: dict[str, Any]) -> list[str]:  # noqa: ANN401 - a row of session
    """What an operator let pass: a session that is recorded otherwise now, they have not seen."""
    if all(getattr(row, column) == recorded[column] for column in ("start_wh", "stopped_at", "stop_wh")):
        return list(row.accepted_anomalies)
    return sorted(STILL_PASSES & {*row.accepted_anomalies})


def _used_wh(recorded: dict[str, Any]) -> int:
    return used_wh(recorded["start_wh"], recorded["stop_wh"])


def _recorded(one: Transaction) -> dict[str, Any]:
    if one.stop_timestamp is None:
        return {"start_wh": one.start_wh, **dict.fromkeys(STOP)}
    return {
        "start_wh": one.start_wh,
        "stopped_at": one.stop_timestamp,
        "stop_wh": one.stop_wh,
        "stop_reason": one.stop_reason,
        # Before 3.4 SteVe did not say who stopped it; then it was the station.
        "stop_actor": one.stop_event_actor or "station",
    }
