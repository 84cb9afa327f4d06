"""When an upstream counts as lost. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from services.sync.upstreams.errors import UpstreamError

# One failed call is a hiccup; a fault of configuration is none.
FAILURES_TO_LOSE: Final = 2


@dataclass(frozen=True, slots=True)
class Standing:
    """What this process has seen of an upstream."""

    state: Literal["ok", "lost", "unknown"]
    since: datetime
    checked_at: datetime | None = None
    failures: int = 0
    reason: str | None = None
    explanation: str | None = None


def after(standing: Standing, error: UpstreamError | None, at: datetime) -> Standing:
    """The standing after one more outcome. A rate limit is no loss: it answers, and says when to come back."""
    if error is not None and error.reason in {"not_asked", "refused", "rate_limited"}:
        return replace(standing, checked_at=at)
    if error is None:
        since = standing.since if standing.state == "ok" else at
        return Standing("ok", since, at)
    failures = standing.failures + 1
    if standing.state != "lost" and failures < FAILURES_TO_LOSE and not error.misconfigured:
        return replace(standing, checked_at=at, failures=failures)
    since = standing.since if standing.state == "lost" else at
    return Standing("lost", since, at, failures, error.reason, error.explanation)
