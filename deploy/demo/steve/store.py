"""Where the simulator's state survives a restart: every change is written through to one SQLite file."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

T = TypeVar("T")


class Store(Protocol):
    def put(self, kind: str, key: str, value: Any) -> None: ...  # noqa: ANN401 - any msgspec value

    def remove(self, kind: str, key: str) -> None: ...

    def load(self, kind: str, of: type[T]) -> Iterator[tuple[str, T]]: ...

    def batch(self) -> Any: ...  # noqa: ANN401 - a context manager

    def close(self) -> None: ...


class MemoryStore:
    """Keeps nothing; the state itself is the only copy."""

    def put(self, kind: str, key: str, value: Any) -> None:  # noqa: ANN401 - as the protocol
        pass

    def remove(self, kind: str, key: str) -> None:
        pass

    def load(self, kind: str, of: type[T]) -> Iterator[tuple[str, T]]:  # noqa: ARG002 - as the protocol
        return iter(())

    @contextmanager
    def batch(self) -> Iterator[None]:
        yield

    def close(self) -> None:
        pass


class FileStore:
    """One row a thing. Survives a killed process; a killed machine may lose the last changes."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("CREATE TABLE IF NOT EXISTS thing (kind TEXT, key TEXT, body BLOB, PRIMARY KEY (kind, key))")

    def put(self, kind: str, key: str, value: Any) -> None:  # noqa: ANN401 - as the protocol
        self._db.execute("INSERT OR REPLACE INTO thing VALUES (?, ?, ?)", (kind, key, msgspec.json.encode(value)))

    def remove(self, kind: str, key: str) -> None:
        self._db.execute("DELETE FROM thing WHERE kind = ? AND key = ?", (kind, key))

    def load(self, kind: str, of: type[T]) -> Iterator[tuple[str, T]]:
        rows = self._db.execute("SELECT key, body FROM thing WHERE kind = ? ORDER BY rowid", (kind,))
        decoder = msgspec.json.Decoder(of)
        for key, body in rows:
            yield key, decoder.decode(body)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Many changes in one SQLite transaction: a hundred thousand rows in seconds instead of minutes."""
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()
