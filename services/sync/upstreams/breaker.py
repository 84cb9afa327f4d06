"""A circuit breaker: an upstream that keeps failing is left alone for a growing, jittered pause."""

import random
from collections.abc import Callable
from typing import Final

FAILURES_TO_OPEN: Final = 3
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0


class Breaker:
    """Closed until `FAILURES_TO_OPEN` failures in a row; then one trial a pause, each pause twice the last.

    `clock` is monotonic, in seconds; `jitter` gives 0 to 1.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        longest_pause_s: float = LONGEST_PAUSE_S,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock, self._jitter, self._longest_s = clock, jitter, longest_pause_s
        self._failures = 0
        self._closed_again_at = 0.0
        # Of a rate limit. What succeeds meanwhile was asked before, or in urgency, or has a limit of its own.
        self._allowed_at = 0.0
        self._trial_at: float | None = None

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._failures

    @property
    def is_failing(self) -> bool:
        """Whether it failed so often that it is left alone, but for trials. A rate limit is no failure."""
        return self._failures >= FAILURES_TO_OPEN

    @property
    def is_open(self) -> bool:
        """Whether a call would not be made now. To look is no trial."""
        return self._left_alone_s(self._clock()) > 0

    def wait_s(self) -> float:
        """Seconds until the next call may be made; 0: now, and then this call is the trial."""
        now = self._clock()
        wait_s = self._left_alone_s(now)
        if not wait_s and self.is_failing:
            self._trial_at = now
        return wait_s

    def _left_alone_s(self, now: float) -> float:
        if now < (again_at := max(self._closed_again_at, self._allowed_at)):
            return again_at - now
        if not self.is_failing or self._trial_at is None:
            return 0.0
        # One trial at a time; one whose outcome never came is given up after the longest pause.
        return FIRST_PAUSE_S if now < self._trial_at + self._longest_s else 0.0

    def succeeded(self) -> None:
        self._failures, self._trial_at, self._closed_again_at = 0, None, 0.0

    def failed(self, retry_after_s: float | None = None) -> None:
        """Count a failure. `retry_after_s` is what the upstream itself asked for; it is kept to."""
        self._failures += 1
        self._trial_at = None
        pause = 0.0
        if self._failures >= FAILURES_TO_OPEN:
            doublings = min(self._failures - FAILURES_TO_OPEN, 10)
            pause = min(FIRST_PAUSE_S * 2.0**doublings, self._longest_s) * (0.5 + 0.5 * self._jitter())
        if retry_after_s is not None:
            pause = max(pause, retry_after_s)
        if pause:
            self._closed_again_at = max(self._closed_again_at, self._clock() + pause)

    def pause(self, seconds: float) -> None:
        """Call nothing for so long, whatever succeeds meanwhile. A rate limit is no fault, and counts as no failure."""
        self._allowed_at = max(self._allowed_at, self._clock() + seconds)
