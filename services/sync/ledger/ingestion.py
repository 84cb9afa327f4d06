"""Whether Lago takes events at all, or fails on one of them: a server error alone tells neither (decision 26)."""

import random
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

from services.sync.ledger.store import Entry
from services.sync.upstreams.errors import NotAskedError, UpstreamError

# Failures, with nothing taken in between, after which Lago takes no events: the first one alone may be a hiccup.
FAILURES_TO_STOP: Final = 2
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
# What nothing more was heard of for so long was taken by another replica, or is held.
FORGET_AFTER: Final = timedelta(minutes=15)

Key = tuple[str, int, int]


class Ingestion:
    """What this process has seen of it. `object_to` tells that Lago takes no events though it answers otherwise, and
    with None that it does.
    """

    def __init__(self, object_to: Callable[[UpstreamError | None], None]) -> None:
        self._object_to = object_to
        self.took_at: datetime | None = None
        self._failed_at: datetime | None = None
        self._failures = 0
        self._again_at: datetime | None = None
        # What failed since it took something last.
        self._failing: set[Key] = set()

    @property
    def is_doubtful(self) -> bool:
        """It failed on the last ones: one event alone is to tell whether it takes any."""
        return self._failures > 0

    def wait(self, now: datetime) -> NotAskedError | None:
        """Why nothing is to be sent now; None: send."""
        # Where it lies further ahead than any pause, the clock was.
        if self._again_at is None or not now < self._again_at <= now + timedelta(seconds=LONGEST_PAUSE_S):
            return None
        return NotAskedError("lago", (self._again_at - now).total_seconds())

    def took(self, now: datetime) -> None:
        """It took an event."""
        self.took_at = now
        self._is_well()

    def failed_on(self, batch: Sequence[Entry], error: UpstreamError, now: datetime) -> bool:
        """It failed on these; returns whether one of them is to blame: it failed before Lago took others, and since
        then Lago failed on nothing else.
        """
        if self.took_at is not None and self.took_at > now:
            # By a clock that was ahead: others then seem to have been taken after each failure.
            self.took_at = None
        mine = {one.key for one in batch}
        others = self._failing - mine
        self._failing |= mine
        self._failed_at = now
        took_at = self.took_at
        outlived = took_at is not None and any(
            one.failing_since is not None and one.failing_since < took_at for one in batch
        )
        if outlived and not others and self._failures < FAILURES_TO_STOP:
            return True
        self._failures += 1
        if self._failures >= FAILURES_TO_STOP:
            pause_s = min(FIRST_PAUSE_S * 2.0 ** min(self._failures - FAILURES_TO_STOP, 10), LONGEST_PAUSE_S)
            self._again_at = now + timedelta(seconds=pause_s * (0.5 + 0.5 * random.random()))  # noqa: S311 - jitter
            self._object_to(error)
        return False

    def forget(self, entries: Sequence[Entry]) -> None:
        """Lago has these after all, or they are held, or tried apart: what is failing is told without them."""
        self._failing -= {one.key for one in entries}
        if not self._failing:
            self._is_well()

    @property
    def failing(self) -> frozenset[Key]:
        """On these Lago failed, and nothing more was heard of them."""
        return frozenset(self._failing)

    def keep(self, unsent: Collection[Key]) -> None:
        """Of what is failing, only these still wait: another replica has delivered the others."""
        if self._failing and not self._failing.intersection(unsent):
            self._is_well()

    def forget_old(self, now: datetime) -> None:
        if self._failed_at is not None and abs(now - self._failed_at) > FORGET_AFTER:
            self._is_well()

    def _is_well(self) -> None:
        self._failing.clear()
        self._failures, self._again_at, self._failed_at = 0, None, None
        self._object_to(None)
