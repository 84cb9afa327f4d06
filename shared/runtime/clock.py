"""Time and ids are passed in, so that rules stay pure and tests decide what time it is."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import uuid_utils.compat

Clock = Callable[[], datetime]
NewId = Callable[[], UUID]


def utc_now() -> datetime:
    """The current time, timezone-aware, UTC."""
    return datetime.now(UTC)


def uuid7() -> UUID:
    """A fresh id that sorts by its time of birth (RFC 9562, section 5.7)."""
    return uuid_utils.compat.uuid7()
