"""Before anything is billed: whether Lago is set up so that what is sent is counted (facts: start-up gate)."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Literal

from services.sync.lago.client import LagoClient
from services.sync.upstreams.errors import MisconfiguredError, UpstreamError
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger

log = get_logger(__name__)

OPEN_FOR: Final = timedelta(minutes=10)
CLOSED_FOR: Final = timedelta(seconds=10)


class Gate:
    """Open when the metric exists, sums up the property that is sent, and begins anew in each period. Plans are checked
    one by one.
    """

    def __init__(
        self,
        lago: LagoClient,
        *,
        metric_code: str,
        metric_property: str,
        clock: Clock,
        object_to: Callable[[UpstreamError | None], None],
    ) -> None:
        self._lago, self._code, self._property = lago, metric_code, metric_property
        self._clock, self._object_to = clock, object_to
        self._state: Literal["open", "closed", "unknown"] = "unknown"
        self._checked_at: datetime | None = None
        self.problem: str | None = None
        self.events_store = "postgres"

    async def is_open(self) -> bool:
        """Whether billing may run; asks Lago when the last answer is old.

        :raises UpstreamError: it cannot be told now, and could not before.
        """
        kept = OPEN_FOR if self._state == "open" else CLOSED_FOR
        if self._checked_at is None or abs(self._clock() - self._checked_at) >= kept:
            try:
                await self._check()
            except UpstreamError:
                if self._state != "open":
                    raise
        return self._state == "open"

    async def _check(self) -> None:
        metric = await self._lago.metric(self._code)
        self.events_store = (await self._lago.organization()).events_store
        problem = None
        if metric is None:
            problem = f"has no billable metric {self._code}. Create it: sum of {self._property}"
        elif metric.aggregation_type != "sum_agg":
            problem = f"aggregates the metric {self._code} by {metric.aggregation_type}; it must be the sum (sum_agg)"
        elif metric.field_name != self._property:
            problem = (
                f"sums up {metric.field_name!r} in the metric {self._code}, and {self._property!r} is what is sent"
            )
        elif metric.recurring:
            problem = (
                f"carries the sum of the metric {self._code} over into each next period (recurring), where it is billed"
                " again; it must be metered"
            )
        self._checked_at = self._clock()
        self.problem = problem
        before, self._state = self._state, "closed" if problem else "open"
        if problem:
            self._object_to(MisconfiguredError("lago", "billing_gate", problem))
            if before != "closed":
                log.error("Billing is held: Lago is not set up for it.", action="gate.closed", problem=problem)
        else:
            self._object_to(None)
            if before != "open":
                log.info("Lago is set up for billing.", action="gate.opened", events_store=self.events_store)
