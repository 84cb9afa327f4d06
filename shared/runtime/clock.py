"""Time and ids are passed in, so that rules stay pure and tests decide what time it is."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import uuid_utils.compat

Clock = Callable[[], datetime]
NewId = Callable[[], UUID]

# The clocks of two processes differ by less: what is noted at a time that is further ahead was noted by a wrong clock,
# and nobody knows when.
AHEAD: Final = timedelta(minutes=1)


def utc_now() -> datetime:
    """The current time, timezone-aware, UTC."""
    return datetime.now(UTC)


def uuid7() -> UUID:
    """A fresh id that sorts by its time of birth (RFC 9562, section 5.7)."""
    return uuid_utils.compat.uuid7()
