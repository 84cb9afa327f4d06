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
        self._trial_at: float | None = None

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._failures

    def wait_s(self) -> float:
        """Seconds until the next call may be made; 0: now, and then this call is the trial."""
        now = self._clock()
        if now < self._closed_again_at:
            return self._closed_again_at - now
        if self._failures >= FAILURES_TO_OPEN:
            # One trial at a time; one whose outcome never came is given up after the longest pause.
            if self._trial_at is not None and now < self._trial_at + self._longest_s:
                return FIRST_PAUSE_S
            self._trial_at = now
        return 0.0

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
        """Call nothing for so long, without counting a failure: a rate limit is no fault."""
        self._closed_again_at = max(self._closed_again_at, self._clock() + seconds)
