"""How often a code may be tried from one address."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

MOST_SOURCES: Final = 10_000


class Attempts:
    """Counts within the last `per_s` seconds, in this process. `now` is monotonic, in seconds.

    There is no limit for all together: whoever has addresses enough would use it up, and keep everybody out. From many
    addresses it is the codes' length that makes guessing hopeless.
    """

    def __init__(self, now: Callable[[], float], *, each: int = 5, per_s: float = 60.0) -> None:
        self._now, self._each, self._per_s = now, each, per_s
        self._by_source: OrderedDict[str, deque[float]] = OrderedDict()

    def allowed(self, source: str) -> bool:
        """Whether one more attempt is allowed now; counts it if so."""
        now = self._now()
        times = self._by_source.setdefault(source, deque())
        self._by_source.move_to_end(source)
        if len(self._by_source) > MOST_SOURCES:
            self._by_source.popitem(last=False)
        while times and times[0] <= now - self._per_s:
            times.popleft()
        if len(times) >= self._each:
            return False
        times.append(now)
        return True
