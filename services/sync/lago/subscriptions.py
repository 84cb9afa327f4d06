"""What is known of subscriptions, and how fresh it is. "Lago did not answer" is never "no subscription"."""

import asyncio
from collections.abc import Collection
from typing import Any, Final

from services.sync.lago import store
from services.sync.lago.client import LagoClient
from services.sync.lago.models import Plan, Subscription
from services.sync.upstreams.errors import UpstreamError
from shared.database.engine import Database
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger
from shared.runtime.together import together

log = get_logger(__name__)

# One that has not begun is none that was canceled or deleted.
TO_COME: Final = ("pending", "incomplete")


class Subscriptions:
    def __init__(
        self, lago: LagoClient, database: Database, *, metric_code: str, clock: Clock, at_once: int = 3
    ) -> None:
        self._lago, self._database, self._metric_code, self._clock = lago, database, metric_code, clock
        self._at_once = at_once

    async def refresh(self, ids: Collection[str]) -> set[str]:
        """Ask Lago about these; returns those it answered about. Nothing is raised: who is missing is unknown."""
        free = asyncio.Semaphore(self._at_once)
        silent: dict[str, UpstreamError] = {}

        async def ask(external_id: str) -> dict[str, Any] | None:
            async with free:
                try:
                    return await self._ask(external_id)
                except UpstreamError as error:
                    silent[external_id] = error
                    return None

        answers = [one for one in await together(map(ask, sorted(ids))) if one is not None]
        if silent:
            example, error = next(iter(silent.items()))
            log.warning(
                "Lago did not answer about subscriptions; their sessions wait.",
                action="subscriptions.unknown",
                subscriptions=len(silent),
                example=example,
                error=str(error),
            )
        if answers:
            async with self._database.write() as tx:
                await store.keep_subscribed(tx, answers, self._clock())
        return {str(one["external_subscription_id"]) for one in answers}

    async def _ask(self, external_id: str) -> dict[str, Any]:
        # What it answers is true of no earlier moment.
        now = self._clock()
        found = await self._lago.subscription(external_id)
        if found is not None:
            plan = found.plan or await self._lago.plan(found.plan_code)
            return {**_columns(found), **self._charge(plan), "active": True, "checked_at": now}
        ended = await self._lago.subscription(external_id, status="terminated")
        if ended is not None:
            return {**_columns(ended), "active": False, "checked_at": now}
        none = {"external_subscription_id": external_id, "active": False, "checked_at": now}
        for status in TO_COME:
            if await self._lago.subscription(external_id, status=status) is not None:
                return none
        return none | {"gone_at": now}

    def _charge(self, plan: Plan | None) -> dict[str, Any]:
        charges = [one for one in plan.charges if one.billable_metric_code == self._metric_code] if plan else []
        prices = [price for one in charges if one.bills and (price := one.unit_price()) is not None]
        return {
            "metric_code": self._metric_code,
            "has_charge": any(one.bills for one in charges),
            # Each of them bills each event, so what one of them was paid in advance cannot be taken back.
            "pay_in_advance": any(one.pay_in_advance for one in charges),
            "unit_price": sum(prices) if prices and len(prices) == sum(one.bills for one in charges) else None,
            "currency": plan.amount_currency if plan is not None else None,
        }


def _columns(found: Subscription) -> dict[str, Any]:
    return {
        "external_subscription_id": found.external_id,
        "external_customer_id": found.external_customer_id,
        "plan_code": found.plan_code,
        "started_at": found.started_at,
        "ended_at": found.terminated_at or found.ending_at,
        "period_from": found.current_billing_period_started_at,
        "period_to": found.current_billing_period_ending_at,
    }
