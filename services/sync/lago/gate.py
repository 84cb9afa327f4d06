"""Before anything is billed: whether Lago is set up so that what is sent is counted (facts: start-up gate)."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Literal

from services.sync.lago.client import LagoClient
from services.sync.lago.rules import Metric
from services.sync.upstreams.errors import MisconfiguredError, UpstreamError
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger

log = get_logger(__name__)

OPEN_FOR: Final = timedelta(minutes=10)
CLOSED_FOR: Final = timedelta(seconds=10)


class Gate:
    """Open when the metric exists, sums up the property that is sent, and begins anew in each period. Plans are checked
    one by one. `problem` is why it is closed, as Lago last said; None where it is open, or not known to be.
    """

    def __init__(
        self,
        lago: LagoClient,
        *,
        metric: Metric,
        clock: Clock,
        object_to: Callable[[UpstreamError | None], None],
    ) -> None:
        self._lago, self.metric = lago, metric
        self._clock, self._object_to = clock, object_to
        self._state: Literal["open", "closed", "unknown"] = "unknown"
        self._checked_at: datetime | None = None
        self.problem: str | None = None
        self.events_store = "postgres"

    @property
    def was_open(self) -> bool:
        """Whether it was, when Lago was asked last."""
        return self._state == "open"

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
        code, field = self.metric
        metric = await self._lago.metric(code)
        self.events_store = (await self._lago.organization()).events_store
        problem = None
        if metric is None:
            problem = f"has no billable metric {code}. Create it: sum of {field}"
        elif metric.aggregation_type != "sum_agg":
            problem = f"aggregates the metric {code} by {metric.aggregation_type}; it must be the sum (sum_agg)"
        elif metric.field_name != field:
            problem = f"sums up {metric.field_name!r} in the metric {code}, and {field!r} is what is sent"
        elif metric.recurring:
            problem = (
                f"carries the sum of the metric {code} over into each next period (recurring), where it is billed"
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
