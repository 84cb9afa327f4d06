"""Connections that have not said yet what they want: in a room of their own, where the crowd pushes itself out."""

from typing import Final, Generic, TypeVar

T = TypeVar("T")

# A thousand chargers behind one address come back at once, and all of them are here for a moment.
MOST: Final = 2048


class Unasked(Generic[T]):
    """At most `most`, and at most half as many from one source; each from the oldest on."""

    def __init__(self, most: int = MOST) -> None:
        self._most, self._most_each = most, max(1, most // 2)
        self._source: dict[T, str] = {}
        self._by_source: dict[str, dict[T, None]] = {}

    def __len__(self) -> int:
        return len(self._source)

    def add(self, one: T, source: str) -> T | None:
        """Take one in; returns who has to give way: the oldest of its source, or of the source that has the most."""
        self._source[one] = source
        own = self._by_source.setdefault(source, {})
        own[one] = None
        crowd = None
        if len(own) > self._most_each:
            crowd = own
        elif len(self._source) > self._most:
            # Counted only when it is full: whoever fills it pays for that with the own connections.
            crowd = max(self._by_source.values(), key=len)
        if crowd is None:
            return None
        out = next(iter(crowd))
        self.remove(out)
        return out

    def remove(self, one: T) -> None:
        """It asked, or it is gone; also for one that is not here."""
        source = self._source.pop(one, None)
        if source is None:
            return
        own = self._by_source[source]
        del own[one]
        if not own:
            del self._by_source[source]
