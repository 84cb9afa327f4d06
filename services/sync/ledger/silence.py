"""Subscriptions about which Lago is silent while it answers otherwise: each is asked about again after growing pauses,
and keeps no event of another one waiting.
"""

import random
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from services.sync.lago.client import LagoClient
from services.sync.lago.subscriptions import Subscriptions
from services.sync.upstreams.errors import NotAskedError

FIRST_PAUSE_S: Final = 1.0
# So soon after Lago answers again, what waited for it goes.
LONGEST_PAUSE_S: Final = 30.0


class Silence:
    """What this process has met of it."""

    def __init__(self, lago: LagoClient, subscriptions: Subscriptions) -> None:
        self._lago, self._subscriptions = lago, subscriptions
        self._kept: dict[str, tuple[int, datetime]] = {}

    def until(self, subscription: str, now: datetime) -> datetime | None:
        """When Lago is to be asked about it again; None: now."""
        _, again_at = self._kept.get(subscription, (0, now))
        # Where it lies further ahead than any pause, the clock was.
        return again_at if now < again_at <= now + timedelta(seconds=LONGEST_PAUSE_S) else None

    async def ask(self, subscriptions: Collection[str], now: datetime) -> set[str]:
        """Ask about those for which it is time; returns those that Lago answered about.

        :raises NotAskedError: it did not, and is left alone altogether by now: that says nothing of any one of them.
        """
        asked = {name for name in subscriptions if self.until(name, now) is None}
        answered = await self._subscriptions.refresh(asked) if asked else set[str]()
        silent = asked - answered
        if silent and self._lago.is_left_alone:
            raise NotAskedError("lago", FIRST_PAUSE_S)
        for name in answered:
            self._kept.pop(name, None)
        for name in silent:
            times, _ = self._kept.get(name, (0, now))
            pause_s = min(FIRST_PAUSE_S * 2.0 ** min(times, 10), LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
            self._kept[name] = times + 1, now + timedelta(seconds=pause_s)
        return answered
