"""The state in an SQLite file, so that a simulated Lago survives its own restart, or being killed."""

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from deploy.demo.lago.model import (
    Customer,
    Event,
    Invoice,
    Metric,
    Plan,
    Subscription,
    Wallet,
    WalletTransaction,
)
from deploy.demo.lago.state import LagoState, Thing

# In the order in which they refer to each other.
_KINDS: Final[tuple[type[Thing], ...]] = (
    Customer,
    Metric,
    Plan,
    Subscription,
    Invoice,
    Wallet,
    WalletTransaction,
)
_SCHEMA: Final = """
create table if not exists things (kind text, id text, body blob not null, primary key (kind, id));
create table if not exists events (seq integer primary key, body blob not null);
create table if not exists secrets (name text primary key, body text not null);
"""


class SqliteJournal:
    """Writes each change through, in one transaction, before Lago's answer is sent."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("pragma journal_mode = wal")
        self._database.execute("pragma synchronous = normal")
        self._database.executescript(_SCHEMA)

    def load(self, state: LagoState) -> bool:
        """Fill an empty state with what is in the file. Returns whether there was anything."""
        found = False
        for kind in _KINDS:
            rows = self._database.execute("select body from things where kind = ? order by rowid", (kind.__name__,))
            for (body,) in rows:
                state.place(msgspec.json.decode(body, type=kind))
                found = True
        events = self._database.execute("select body from events order by seq")
        state.events.add_all(msgspec.json.decode(body, type=Event) for (body,) in events)
        return found or len(state.events) > 0

    def save(self, thing: Thing) -> None:
        self._database.execute(
            "insert into things (kind, id, body) values (?, ?, ?)"
            " on conflict (kind, id) do update set body = excluded.body",
            (type(thing).__name__, thing.lago_id, msgspec.json.encode(thing)),
        )

    def save_events(self, events: Iterable[Event]) -> None:
        """Appends. What ClickHouse replaced stays in the file: loading in order of arrival replaces it again."""
        self._database.execute("begin")
        self._database.executemany(
            "insert into events (seq, body) values (?, ?)",
            [(event.seq, msgspec.json.encode(event)) for event in events],
        )
        self._database.execute("commit")

    def secret(self, name: str, make: Callable[[], str]) -> str:
        """A value that is made once and then stays the same: the signing key, the organisation's id."""
        row = self._database.execute("select body from secrets where name = ?", (name,)).fetchone()
        if row is not None:
            return str(row[0])
        body = make()
        self._database.execute("insert into secrets (name, body) values (?, ?)", (name, body))
        return body

    def close(self) -> None:
        self._database.close()
