"""How often a code may be tried from one address, and by all together."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

MOST_SOURCES: Final = 10_000


class Attempts:
    """Counts within the last `per_s` seconds, in this process. `now` is monotonic, in seconds."""

    def __init__(self, now: Callable[[], float], *, each: int = 5, altogether: int = 60, per_s: float = 60.0) -> None:
        self._now, self._each, self._altogether, self._per_s = now, each, altogether, per_s
        self._by_source: OrderedDict[str, deque[float]] = OrderedDict()
        self._all: deque[float] = deque()

    def allowed(self, source: str) -> bool:
        """Whether one more attempt is allowed now; counts it if so."""
        now = self._now()
        own = self._by_source.setdefault(source, deque())
        self._by_source.move_to_end(source)
        if len(self._by_source) > MOST_SOURCES:
            self._by_source.popitem(last=False)
        for times in (own, self._all):
            while times and times[0] <= now - self._per_s:
                times.popleft()
        if len(own) >= self._each or len(self._all) >= self._altogether:
            return False
        own.append(now)
        self._all.append(now)
        return True
