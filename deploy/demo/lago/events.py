"""The stored events, in the two event stores an organisation can have (facts 1, 2 and 6)."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from deploy.demo.lago.ingest import DUPLICATE, FieldErrors
from deploy.demo.lago.model import Event
from deploy.demo.lago.settings import EventsStore

_END_OF_TIME: Final = 1 << 63  # microseconds

Key = tuple[str | None, str] | tuple[str | None, str, int]
_Entry = tuple[int, int]  # timestamp, seq


class _Timeline:
    """Events in order of their timestamp; sorted when read, so that a batch costs nothing here."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._sorted = True

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, event: Event) -> None:
        entry = (event.timestamp_us, event.seq)
        self._sorted = self._sorted and (not self._entries or self._entries[-1] < entry)
        self._entries.append(entry)

    def remove(self, event: Event) -> None:
        self._entries.remove((event.timestamp_us, event.seq))

    def between(self, from_us: int, to_us: int) -> list[_Entry]:
        """Both ends included, oldest first."""
        if not self._sorted:
            self._entries.sort()
            self._sorted = True
        first = bisect_left(self._entries, (from_us, 0))
        return self._entries[first : bisect_right(self._entries, (to_us, _END_OF_TIME))]


class EventStore:
    """Events of one organisation, with the store's rule of uniqueness.

    PostgreSQL: (external_subscription_id, transaction_id) is unique, a second one is an error.
    ClickHouse: the timestamp is part of the key, and a second one replaces the first without a word.
    """

    def __init__(self, kind: EventsStore) -> None:
        self.kind: Final = kind
        self.version = 0  # grows with every change
        self._by_seq: dict[int, Event] = {}
        self._by_key: dict[Key, int] = {}
        self._by_transaction: dict[str, list[int]] = {}
        self._all = _Timeline()
        self._by_subscription: dict[str | None, _Timeline] = {}
        self._versions: dict[str | None, int] = {}
        self._next_seq = 1

    def __len__(self) -> int:
        return len(self._by_seq)

    def __iter__(self) -> Iterator[Event]:
        """In order of arrival."""
        return iter(self._by_seq.values())

    def duplicates(self, events: list[Event]) -> dict[int, FieldErrors | str]:
        """The second round: which of these, by index, exist already or stand twice in the list."""
        if self.kind == "clickhouse":
            return {}
        seen: set[Key] = set()
        found: dict[int, FieldErrors | str] = {}
        for index, event in enumerate(events):
            key = self._key(event)
            if key in self._by_key or key in seen:
                found[index] = {"transaction_id": [DUPLICATE]}
            seen.add(key)
        return found

    def add_all(self, events: Iterable[Event]) -> None:
        """Store events that were checked for duplicates; gives each its place in the order of arrival."""
        for event in events:
            if event.seq == 0:
                event.seq = self._next_seq
            self._next_seq = max(self._next_seq, event.seq) + 1
            key = self._key(event)
            earlier = self._by_key.get(key)
            if earlier is not None:
                self._forget(earlier)
            self._by_key[key] = event.seq
            self._by_seq[event.seq] = event
            self._by_transaction.setdefault(event.transaction_id, []).append(event.seq)
            self._all.add(event)
            self._timeline(event.external_subscription_id).add(event)
            self._touch(event.external_subscription_id)

    def find(self, transaction_id: str, external_subscription_id: str | None = None) -> Event | None:
        """The first stored event with this id, under any subscription unless one is given."""
        for seq in self._by_transaction.get(transaction_id, ()):
            event = self._by_seq[seq]
            if external_subscription_id in (None, event.external_subscription_id):
                return event
        return None

    def of_subscription(self, external_id: str, from_us: int = -_END_OF_TIME, to_us: int = _END_OF_TIME) -> list[Event]:
        """Events with this subscription id and a timestamp in the span, both ends included, oldest first."""
        timeline = self._by_subscription.get(external_id)
        return [] if timeline is None else [self._by_seq[seq] for _, seq in timeline.between(from_us, to_us)]

    def version_of(self, external_id: str) -> int:
        """Grows with every change to the events of one subscription."""
        return self._versions.get(external_id, 0)

    def search(
        self, *, external_subscription_id: str | None, code: str | None, from_us: int | None, to_us: int | None
    ) -> list[Event]:
        """Newest first; equal timestamps in order of the transaction id (ClickHouse: latest arrival first)."""
        timeline = self._all if external_subscription_id is None else self._timeline(external_subscription_id)
        entries = timeline.between(
            -_END_OF_TIME if from_us is None else from_us, _END_OF_TIME if to_us is None else to_us
        )
        found = [self._by_seq[seq] for _, seq in entries]
        if code is not None:
            found = [event for event in found if event.code == code]
        if self.kind == "clickhouse":
            found.sort(key=lambda event: (-event.created_us, event.transaction_id))
        else:
            found.sort(key=lambda event: (-event.timestamp_us, event.transaction_id))
        return found

    def _key(self, event: Event) -> Key:
        if self.kind == "clickhouse":
            return (event.external_subscription_id, event.transaction_id, event.timestamp_us)
        return (event.external_subscription_id, event.transaction_id)

    def _timeline(self, external_id: str | None) -> _Timeline:
        timeline = self._by_subscription.get(external_id)
        if timeline is None:
            timeline = self._by_subscription[external_id] = _Timeline()
        return timeline

    def _touch(self, external_id: str | None) -> None:
        self.version += 1
        self._versions[external_id] = self._versions.get(external_id, 0) + 1

    def _forget(self, seq: int) -> None:
        event = self._by_seq.pop(seq)
        self._by_transaction[event.transaction_id].remove(seq)
        self._all.remove(event)
        self._timeline(event.external_subscription_id).remove(event)
