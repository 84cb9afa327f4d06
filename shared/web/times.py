"""Moments as pages write them: in UTC. `static/js/time.js` rewrites them in the reader's zone. Pure: no clock."""

from datetime import UTC, datetime


def instant(at: datetime) -> str:
    return f"{_utc(at):%Y-%m-%d %H:%M} UTC"


def instant_exact(at: datetime) -> str:
    return f"{_utc(at):%Y-%m-%d %H:%M:%S} UTC"


def iso(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as the events write it."""
    return _utc(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} has no time zone; times are timezone-aware UTC")
    return at.astimezone(UTC)
