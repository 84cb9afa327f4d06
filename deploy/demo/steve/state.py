"""The simulator's database: tags, chargers and transactions, and plain functions to put anything into it."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import datetime

from deploy.demo.steve import rules
from deploy.demo.steve.model import (
    AuthorizationStatus,
    Charger,
    ConnectorState,
    FailedStop,
    MeterValue,
    Stop,
    StopActor,
    Tag,
    Transaction,
    tag_key,
)
from deploy.demo.steve.settings import utc_now
from deploy.demo.steve.store import MemoryStore, Store


class TagExistsError(Exception):
    pass


class UnknownParentError(Exception):
    pass


class HasChildrenError(Exception):
    pass


class SteveState:
    """`tags`, `chargers`, `transactions` by primary key or id; change them only through the functions here.

    `requests` counts what came in: "GET /ocppTags", "PUT /ocppTags/{pk}", "ocpp:Authorize", "hook", ...
    """

    def __init__(self, store: Store | None = None, clock: Callable[[], datetime] = utc_now) -> None:
        self.clock = clock
        self.tags: dict[int, Tag] = {}
        self.chargers: dict[str, Charger] = {}
        self.transactions: dict[int, Transaction] = {}
        self.meter_values: dict[int, list[MeterValue]] = {}
        self.failed_stops: list[FailedStop] = []
        self.requests: Counter[str] = Counter()
        self._store: Store = store if store is not None else MemoryStore()
        self._tag_by_key: dict[str, Tag] = {}
        self._open_by_tag: defaultdict[int, set[int]] = defaultdict(set)
        self._start_by_content: dict[tuple[str, int, str, datetime, str], int] = {}
        self._last_pk: Counter[str] = Counter()
        self._load()

    def batch(self) -> AbstractContextManager[None]:
        """Group many insertions into one write of the state file."""
        batch: AbstractContextManager[None] = self._store.batch()
        return batch

    def close(self) -> None:
        self._store.close()

    # Tags

    def tag(self, id_tag: str) -> Tag | None:
        return self._tag_by_key.get(tag_key(id_tag))

    def add_tag(
        self,
        id_tag: str,
        *,
        parent_id_tag: str | None = None,
        expiry: datetime | None = None,
        limit: int = 1,
        note: str | None = None,
        user_pk: int | None = None,
    ) -> Tag:
        """Insert a tag. TagExistsError when it is there in any spelling, UnknownParentError."""
        if self.tag(id_tag) is not None:
            raise TagExistsError(id_tag)
        tag = Tag(
            pk=self._next_pk("tag"),
            id_tag=id_tag,
            parent_id_tag=self._parent(parent_id_tag),
            expiry=expiry,
            limit=limit,
            note=note,
            user_pk=user_pk,
        )
        self._keep_tag(tag)
        self._save_tag(tag)
        return tag

    def replace_tag(
        self, pk: int, *, parent_id_tag: str | None, expiry: datetime | None, limit: int, note: str | None
    ) -> None:
        """The full replace behind PUT; idTag and user stay. Nothing happens when the tag does not exist."""
        tag = self.tags.get(pk)
        parent = self._parent(parent_id_tag)
        if tag is None:
            return
        tag.parent_id_tag, tag.expiry, tag.limit, tag.note = parent, expiry, limit, note
        self._save_tag(tag)

    def remove_tag(self, pk: int) -> None:
        """Delete a tag and, as SteVe does, every transaction made with it. HasChildrenError for a parent."""
        tag = self.tags[pk]
        key = tag_key(tag.id_tag)
        if any(tag_key(one.parent_id_tag) == key for one in self.tags.values() if one.parent_id_tag):
            raise HasChildrenError(tag.id_tag)
        for transaction in [one for one in self.transactions.values() if one.tag_pk == pk]:
            self._remove_transaction(transaction)
        del self.tags[pk], self._tag_by_key[key]
        self._store.remove("tag", str(pk))

    def active_count(self, tag: Tag) -> int:
        return len(self._open_by_tag.get(tag.pk, ()))

    def verdict(self, id_tag: str, *, is_start: bool) -> AuthorizationStatus:
        tag = self.tag(id_tag)
        count = 0 if tag is None else self.active_count(tag)
        return rules.decide(tag, active_count=count, is_start=is_start, now=self.clock())

    # Chargers

    def add_charger(
        self, charge_box_id: str, *, password: str | None = None, registration: str = "Accepted"
    ) -> Charger:
        """Insert a charger, or change the password and registration of the one that is there."""
        charger = self.chargers.get(charge_box_id)
        if charger is None:
            charger = Charger(pk=self._next_pk("charger"), charge_box_id=charge_box_id)
            self.chargers[charge_box_id] = charger
        charger.password, charger.registration = password, registration
        self.save_charger(charger)
        return charger

    def save_charger(self, charger: Charger) -> None:
        self._store.put("charger", charger.charge_box_id, charger)

    def set_connector(self, charge_box_id: str, connector_id: int, connector: ConnectorState) -> None:
        charger = self.chargers[charge_box_id]
        charger.connectors[connector_id] = connector
        self.save_charger(charger)

    def next_reservation_id(self) -> int:
        return self._next_pk("reservation")

    # Transactions

    def skip_transaction_pks(self, count: int) -> None:
        """Use up primary keys without a row, as a rolled back insert does."""
        self._last_pk["transaction"] += count
        self._store.put("sequence", "transaction", self._last_pk["transaction"])

    def start_transaction(
        self, *, charge_box_id: str, connector_id: int, id_tag: str, start_at: datetime, start_wh: int | str
    ) -> Transaction:
        """What StartTransaction does in the database, whatever the verdict was.

        An unknown tag is inserted as blocked. The same content again is the transaction that is there
        (a station that lost the answer repeats its message).
        """
        content = (charge_box_id, connector_id, tag_key(id_tag), start_at, str(start_wh))
        known = self._start_by_content.get(content)
        if known is not None:
            return self.transactions[known]
        return self.add_transaction(
            charge_box_id=charge_box_id,
            connector_id=connector_id,
            id_tag=id_tag,
            start_at=start_at,
            start_wh=start_wh,
        )

    def add_transaction(
        self,
        *,
        charge_box_id: str,
        id_tag: str,
        start_at: datetime,
        start_wh: int | str,
        connector_id: int = 1,
        stop_at: datetime | None = None,
        stop_wh: int | str | None = None,
        stop_reason: str | None = None,
        stop_actor: StopActor = StopActor.STATION,
        meter_values: Iterable[MeterValue] = (),
    ) -> Transaction:
        """Insert any history, also an impossible one: no rule is checked. `stop_at` None: it is still open."""
        charger = self.chargers.get(charge_box_id) or self.add_charger(charge_box_id)
        tag = self.tag(id_tag)
        if tag is None:
            note = f"This unknown idTag was used in a transaction that started @ {start_at.isoformat()}."
            tag = self.add_tag(id_tag, limit=0, note=note)
        stops = []
        if stop_at is not None:
            value = str(start_wh if stop_wh is None else stop_wh)
            stops.append(Stop(at=stop_at, value=value, reason=stop_reason, actor=stop_actor))
        transaction = Transaction(
            pk=self._next_pk("transaction"),
            charge_box_id=charge_box_id,
            charge_box_pk=charger.pk,
            connector_id=connector_id,
            id_tag=id_tag,
            tag_pk=tag.pk,
            start_at=start_at,
            start_value=str(start_wh),
            stops=stops,
        )
        self._keep_transaction(transaction)
        self._store.put("transaction", str(transaction.pk), transaction)
        self.add_meter_values(transaction.pk, meter_values)
        return transaction

    def add_stop(self, pk: int, stop: Stop) -> None:
        """Append a stop; it is the one that counts from now on. No rule is checked."""
        transaction = self.transactions[pk]
        transaction.stops.append(stop)
        self._open_by_tag[transaction.tag_pk].discard(pk)
        self._store.put("transaction", str(pk), transaction)

    def stop_by_station(
        self, *, charge_box_id: str, pk: int, stop_at: datetime, stop_wh: int, reason: str | None
    ) -> FailedStop | None:
        """What StopTransaction does in the database; a stop that does not add up leaves it open."""
        transaction = self.transactions.get(pk)
        if transaction is not None and transaction.charge_box_id != charge_box_id:
            transaction = None
        why = rules.stop_failure(transaction, stopped_at=stop_at, value_wh=stop_wh, now=self.clock())
        if why is None:
            stop = Stop(at=stop_at, value=str(stop_wh), reason=reason, actor=StopActor.STATION)
            self.add_stop(pk, stop)
            return None
        failed = FailedStop(transaction_pk=pk, charge_box_id=charge_box_id, at=stop_at, value=str(stop_wh), why=why)
        self.failed_stops.append(failed)
        self._store.put("failed_stop", str(len(self.failed_stops)), failed)
        return failed

    def stop_manually(self, pk: int) -> None:
        """`PATCH /{pk}/stop`: in the database only; nothing changes when it is stopped already."""
        transaction = self.transactions[pk]
        if transaction.active:
            readings = self.meter_values.get(pk, [])
            self.add_stop(pk, rules.manual_stop(transaction, readings, self._following(transaction)))

    def add_meter_values(self, pk: int, readings: Iterable[MeterValue]) -> None:
        for reading in readings:
            kept = self.meter_values.setdefault(pk, [])
            kept.append(reading)
            self._store.put("meter_value", f"{pk}:{len(kept)}", reading)

    # Inside

    def _parent(self, parent_id_tag: str | None) -> str | None:
        if parent_id_tag is None:
            return None
        parent = self.tag(parent_id_tag)
        if parent is None:
            raise UnknownParentError(parent_id_tag)
        return parent.id_tag

    def _following(self, transaction: Transaction) -> Transaction | None:
        later = [
            one
            for one in self.transactions.values()
            if one.charge_box_id == transaction.charge_box_id
            and one.connector_id == transaction.connector_id
            and one.start_at > transaction.start_at
        ]
        return min(later, key=lambda one: one.start_at, default=None)

    def _next_pk(self, kind: str) -> int:
        self._last_pk[kind] += 1
        self._store.put("sequence", kind, self._last_pk[kind])
        return self._last_pk[kind]

    def _keep_tag(self, tag: Tag) -> None:
        self.tags[tag.pk] = tag
        self._tag_by_key[tag_key(tag.id_tag)] = tag

    def _save_tag(self, tag: Tag) -> None:
        self._store.put("tag", str(tag.pk), tag)

    def _content(self, transaction: Transaction) -> tuple[str, int, str, datetime, str]:
        return (
            transaction.charge_box_id,
            transaction.connector_id,
            tag_key(transaction.id_tag),
            transaction.start_at,
            transaction.start_value,
        )

    def _keep_transaction(self, transaction: Transaction) -> None:
        self.transactions[transaction.pk] = transaction
        self._start_by_content[self._content(transaction)] = transaction.pk
        if transaction.active:
            self._open_by_tag[transaction.tag_pk].add(transaction.pk)

    def _remove_transaction(self, transaction: Transaction) -> None:
        del self.transactions[transaction.pk]
        self._start_by_content.pop(self._content(transaction), None)
        self._open_by_tag[transaction.tag_pk].discard(transaction.pk)
        self._store.remove("transaction", str(transaction.pk))
        for number in range(1, len(self.meter_values.pop(transaction.pk, [])) + 1):
            self._store.remove("meter_value", f"{transaction.pk}:{number}")

    def _load(self) -> None:
        for kind, last in self._store.load("sequence", int):
            self._last_pk[kind] = last
        for _, tag in self._store.load("tag", Tag):
            self._keep_tag(tag)
        for charge_box_id, charger in self._store.load("charger", Charger):
            self.chargers[charge_box_id] = charger
        for _, transaction in sorted(self._store.load("transaction", Transaction), key=lambda row: row[1].pk):
            self._keep_transaction(transaction)
        for key, reading in self._store.load("meter_value", MeterValue):
            self.meter_values.setdefault(int(key.partition(":")[0]), []).append(reading)
        self.failed_stops.extend(itertools.chain(one for _, one in self._store.load("failed_stop", FailedStop)))
