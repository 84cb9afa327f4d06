"""The held queue: what is not billed, why, and what can be done about it."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final

from services.sync.ledger import held_store as store
from services.sync.ledger import rules
from services.sync.ledger import store as ledger
from services.sync.ledger.held_store import NOT_HELD, Key
from services.sync.ledger.repair import Missing, Repair
from services.sync.links import store as links
from services.sync.links.rules import OWNERLESS, Owner, resolve
from services.sync.sessions import rules as anomalies
from services.sync.sessions.handlers import SessionUnknown, parse_session, read_cursor
from services.sync.sessions.identity import AnotherSteveError
from services.sync.sessions.rules import unbilled
from services.sync.sessions.store import NOT_PUT_OFF, view
from services.sync.upstreams.errors import UpstreamError
from shared.bus.outbox import Outbox
from shared.contracts.event import Event
from shared.contracts.events.sync import TransactionIgnored, TransactionReleased
from shared.contracts.identity import Cause, session_id
from shared.contracts.problem import Invalid
from shared.contracts.request import MAX_ROWS
from shared.contracts.requests.sync import BillingState
from shared.contracts.requests.sync_work import (
    Amount,
    HeldChanged,
    HeldClass,
    HeldPage,
    HeldView,
    IgnoreHeld,
    OwnerChanged,
    ReleaseHeld,
    RetryHeld,
    SearchHeld,
)
from shared.database.engine import Database, Write, after_commit
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger

log = get_logger(__name__)

REMEDIES: Final[dict[str, str]] = {str(name): words for name, words in anomalies.REMEDIES.items()} | rules.REMEDIES
# Whoever asked does not wait for long.
REREAD_WITHIN_S: Final = 4.0
# Sessions whose entries are sent again at a time.
BATCH: Final = 500
# What an operator may let pass.
MAY_PASS: Final = frozenset({*anomalies.REMEDIES, "card_inactive", "late"}) - {"meter_unreadable", "negative_energy"}


Reread = Callable[[Sequence[int]], Awaitable[object]]


class HeldQueue:
    """`settle` and `deliver` have the work done that a change calls for; `reread` asks SteVe again about transactions
    of `steve_id`.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        *,
        steve_id: str,
        reread: Reread,
        repair: Repair,
        clock: Clock,
        settle: Callable[[], None],
        deliver: Callable[[], None],
    ) -> None:
        self._database, self._outbox, self._clock = database, outbox, clock
        self._steve_id, self._reread, self._settle, self._deliver = steve_id, reread, settle, deliver
        self._repair = repair

    async def search_held(self, request: SearchHeld, _: Cause) -> HeldPage:
        after = read_cursor(request.cursor) if request.cursor else None
        async with self._database.read() as tx:
            rows = await store.search(tx, request, after=after)
            classes = await store.classes(tx)
            amounts = await store.amounts(tx)
        last = rows[-1] if len(rows) == request.limit else None
        return HeldPage(
            held=[_view(row) for row in rows],
            classes=[
                HeldClass(
                    reason=row.reason,
                    remedy=REMEDIES.get(row.reason),
                    count=row.count,
                    energy_wh=int(row.energy_wh),
                    amounts=[Amount(currency=name, cents=cents) for name, cents in sorted(amounts[row.reason].items())],
                    oldest_at=row.oldest_at,
                )
                for row in classes
            ],
            next_cursor=f"{last.held_at.isoformat()}/{last.transaction_pk}" if last is not None else None,
        )

    async def retry_held(self, tx: Write, request: RetryHeld, cause: Cause) -> HeldChanged:
        """A session that is named need not be held: what Lago lost of it is sent again, what differs decided again, and
        that it was ignored is taken back.

        :raises Invalid: unless exactly one of sessions, reason and everything is given.
        """
        if [bool(request.sessions), request.reason is not None, request.everything].count(True) != 1:
            raise Invalid("Give either sessions, or a reason, or everything.")
        if not request.sessions:
            return await self._retry_class(tx, request.reason, cause)
        keys = [parse_session(one) for one in request.sessions]
        await self._ask_steve(keys)
        missing = await self._repair.missing(keys)
        changed, refused, events = await self._held(tx, keys, "held", "ignored")
        repaired = await self._repaired(tx, [key for key in keys if key not in changed], missing, refused)
        await store.retry(tx, changed, self._clock())
        events += await self._send_again(tx, changed.values())
        events += [_released(row) for row in changed.values() if row.billing != "held" and not row.has_held_entries]
        if changed:
            # What changed since, or stands against the rest, is decided as well.
            after_commit(tx, self._settle)
        await self._outbox.add_all(tx, events, cause)
        return _changed(changed | repaired, refused)

    async def _retry_class(self, tx: Write, reason: str | None, cause: Cause) -> HeldChanged:
        await self._ask_steve(await store.keys_of_class(tx, reason))
        count, named = await store.retry_class(tx, reason, self._clock())
        if count:
            after_commit(tx, self._settle)
        # Those with a held entry leave the queue, so that each look finds the next ones.
        while rows := await store.stuck(tx, reason, limit=BATCH):
            await self._outbox.add_all(tx, await self._send_again(tx, rows), cause)
        return HeldChanged(sessions=[session_id(*key) for key in named], count=count)

    async def _send_again(self, tx: Write, rows: Collection[Any]) -> list[Event]:
        """Have the held entries of these sessions delivered; returns what is to be told of those that have any."""
        stuck = [row for row in rows if row.has_held_entries]
        if not stuck:
            return []
        await store.send_held(tx, [(row.steve_id, row.transaction_pk) for row in stuck], self._clock())
        after_commit(tx, self._deliver)
        return [_released(row) for row in stuck]

    async def _repaired(
        self, tx: Write, keys: Collection[Key], missing: Missing | str, refused: dict[str, str]
    ) -> dict[Key, Any]:
        """Those that are not held and of which something had to be done; why not of the others is said in `refused`."""
        repaired = {}
        for key, row in (await store.locked(tx, keys)).items():
            why_not = await self._repair.repair(tx, row, missing)
            if why_not is not None:
                refused[session_id(*key)] = why_not
                continue
            refused.pop(session_id(*key), None)
            repaired[key] = row
            after_commit(tx, self._settle)
            after_commit(tx, self._deliver)
        return repaired

    async def _ask_steve(self, keys: Collection[Key]) -> None:
        """What was corrected there counts. Without its answer in time, what was read last does."""
        pks = [pk for steve_id, pk in keys if steve_id == self._steve_id]
        try:
            async with asyncio.timeout(REREAD_WITHIN_S):
                await self._reread(pks)
        except (UpstreamError, AnotherSteveError, TimeoutError) as error:
            log.warning(
                "Held sessions are retried as they were read last: SteVe did not answer.",
                action="held.not_reread",
                sessions=len(pks),
                error=str(error),
            )

    async def ignore_held(self, tx: Write, request: IgnoreHeld, cause: Cause) -> HeldChanged:
        changed, refused, events = await self._held(tx, [parse_session(one) for one in request.sessions])
        for key, row in changed.items():
            await store.update(
                tx,
                key,
                billing="ignored",
                hold_reason=None,
                hold_explanation=None,
                held_at=None,
                settle_at=None,
                note=request.note,
                ignored_wh=anomalies.used_wh(row.start_wh, row.stop_wh),
            )
            events.append(
                TransactionIgnored(
                    session=session_id(*key),
                    charge_box_id=row.charge_box_id,
                    id_tag=row.id_tag,
                    reason=row.hold_reason,
                    energy_wh=int(row.waiting_wh),
                )
            )
        await self._outbox.add_all(tx, events, cause)
        return _changed(changed, refused)

    async def release_held(self, tx: Write, request: ReleaseHeld, cause: Cause) -> HeldChanged:
        """:raises Invalid: unless either sessions, with change_owner or without, or id_tag and since are given."""
        if request.change_owner and not request.sessions:
            raise Invalid("Only sessions that are named change their owner.")
        if request.id_tag is not None and request.since is not None and not request.sessions:
            # Who is linked apart is somebody else's, whom the date was not confirmed for.
            concerned = await links.family(tx, request.id_tag, self._clock())
            keys = [parse_session(one) for one in await links.held_of(tx, concerned, request.since)]
        elif request.sessions and request.id_tag is None:
            keys = [parse_session(one) for one in request.sessions]
        else:
            raise Invalid("Give either sessions, or a card's id_tag and since when.")
        landed = await self._repair.landed(keys) if keys else {}
        rows, refused, events = await self._held(tx, keys)
        now = self._clock()
        ownership = await links.ownership(tx, {row.id_tag for row in rows.values()})
        changed: dict[Key, Any] = {}
        moved: list[OwnerChanged] = []
        for key, row in rows.items():
            values = landed.get(key) or await self._take_back(tx, row)
            if values is None:
                values = await self._repair.remake(tx, row)
            if values is None:
                values = self._release(row, ownership, now, change_owner=request.change_owner)
            if isinstance(values, str):
                refused[session_id(*key)] = values
                continue
            changed[key] = row
            moved += _moved(row, values)
            note = {"note": request.note} if request.note else {}
            billing = unbilled(stopped=row.stopped_at is not None)
            values |= {**NOT_HELD, **NOT_PUT_OFF, "billing": billing, "settle_at": now}
            await store.update(tx, key, **values, **note)
            events.append(_released(row))
            after_commit(tx, self._settle)
            after_commit(tx, self._deliver)
        # What else stands against it holds it again, and is told then.
        await self._outbox.add_all(tx, events, cause)
        return _changed(changed, refused).model_copy(update={"owners_changed": moved[:MAX_ROWS]})

    @staticmethod
    async def _take_back(tx: Write, row: Any) -> dict[str, Any] | None:  # noqa: ANN401 - a row of session
        """What became late before Lago had it is made anew, with a timestamp of the current period, where nothing that
        Lago has comes after it.
        """
        if row.hold_reason != "late" or not await ledger.take_back(tx, row.steve_id, row.transaction_pk):
            return None
        seq, billed_wh = await ledger.end_of_chain(tx, row.steve_id, row.transaction_pk)
        accepted = sorted({*row.accepted_anomalies, "late"})
        return {"last_seq": seq, "billed_wh": billed_wh, "accepted_anomalies": accepted}

    @staticmethod
    def _release(
        row: Any,  # noqa: ANN401 - a row of session
        ownership: links.Ownership,
        now: datetime,
        *,
        change_owner: bool,
    ) -> dict[str, Any] | str:
        """The columns that the release changes, or why it cannot be released."""
        if row.has_held_entries:
            return "A usage event of it is made and frozen: retry it; or bill it by hand in Lago, then ignore it."
        reason = row.hold_reason
        if reason in MAY_PASS:
            return {"accepted_anomalies": sorted({*row.accepted_anomalies, reason})}
        if reason == "changed_since_ignored":
            return {"ignored_wh": None}
        if reason in OWNERLESS:
            return _new_owner(row, ownership, now, change_owner=change_owner)
        return f"There is nothing to let pass: {REMEDIES.get(reason, 'repair the cause, then retry it')}"

    @staticmethod
    async def _held(
        tx: Write, keys: Collection[Key], *states: BillingState
    ) -> tuple[dict[Key, Any], dict[str, str], list[Event]]:
        """Those that are in one of these states (held, if none is given), why the others cannot be changed, and room
        for events.
        """
        rows = await store.locked(tx, keys)
        for key in keys:
            if key not in rows:
                raise SessionUnknown(session_id(*key))
        # One that was ignored may be about to be held again, for what SteVe recorded since.
        mine = {
            key: row
            for key, row in rows.items()
            if row.billing in (states or ("held",)) or ("ignored" in states and row.ignored_wh is not None)
        }
        refused: dict[str, str] = {
            session_id(*key): _why_not(row.billing) for key, row in rows.items() if key not in mine
        }
        return mine, refused, []


def _new_owner(
    row: Any,  # noqa: ANN401 - a row of session
    ownership: links.Ownership,
    now: datetime,
    *,
    change_owner: bool,
) -> dict[str, Any] | str:
    """The columns of the owner that a release gives it, or why there is none."""
    if row.last_seq > 0:
        return "Part of it is billed already; a session has one owner. Retry it, or ignore it."
    # The one valid when it began, or else, since somebody confirms it, the one that is valid now.
    owner = resolve(row.id_tag, row.started_at, ownership.links, ownership.parents)
    if not isinstance(owner, Owner) or owner.external_subscription_id == row.owner_subscription:
        owner = resolve(row.id_tag, now, ownership.links, ownership.parents)
    if not isinstance(owner, Owner):
        return f"Card {row.id_tag} is linked to nobody. Link it first."
    now_of, before = owner.external_customer_id, row.owner_customer
    if before not in {None, now_of} and not change_owner:
        return f"It is {before}'s, and would be billed to {now_of}: only with change_owner, or ignore it."
    return {
        "owner_customer": owner.external_customer_id,
        "owner_subscription": owner.external_subscription_id,
        "owner_id_tag": owner.id_tag,
        "owner_at": now,
    }


def _moved(row: Any, values: dict[str, Any]) -> list[OwnerChanged]:  # noqa: ANN401 - a row of session
    """Whom it was kept for and whom it is billed to, where these are two."""
    before, after = row.owner_customer, values.get("owner_customer")
    if before is None or after in {None, before}:
        return []
    session = session_id(row.steve_id, row.transaction_pk)
    return [OwnerChanged(session=session, previous_external_customer_id=before, external_customer_id=after)]


def _why_not(billing: str) -> str:
    if billing == "ignored":
        return "It is not held but ignored: retry it by its name to take that back."
    return f"It is not held but {billing}."


def _changed(changed: Collection[Key], refused: dict[str, str]) -> HeldChanged:
    return HeldChanged(
        sessions=[session_id(*key) for key in islice(changed, MAX_ROWS)],
        refused=dict(islice(refused.items(), MAX_ROWS)),
        count=len(changed),
    )


def _released(row: Any) -> TransactionReleased:  # noqa: ANN401 - a row of session
    return TransactionReleased(
        session=session_id(row.steve_id, row.transaction_pk),
        charge_box_id=row.charge_box_id,
        id_tag=row.id_tag,
        # One that was ignored is held for nothing by now.
        reason=row.hold_reason or "ignored",
    )


def _view(row: Any) -> HeldView:  # noqa: ANN401 - a row of held_store.search
    return HeldView(
        session=view(row),
        reason=row.hold_reason,
        explanation=row.hold_explanation,
        remedy=REMEDIES.get(row.hold_reason),
        held_at=row.held_at,
        energy_wh=int(row.waiting_wh),
        amount_cents=int(row.cents) if row.cents is not None else None,
        currency=row.currency,
    )
