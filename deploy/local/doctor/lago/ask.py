"""Asks Lago, and applies the gate that sync bills through. Reads only."""

import asyncio
from typing import Final

import httpx
from pydantic import BaseModel, TypeAdapter

from deploy.local.doctor.lago import rules
from deploy.local.doctor.lago.rules import Found
from deploy.local.doctor.result import Result
from deploy.local.doctor.target import Target
from deploy.local.doctor.upstream import TIMEOUT_S, Heard, breaker, heard, ignore, unsendable
from services.sync.lago.client import API, LagoClient
from services.sync.lago.gate import Gate
from services.sync.lago.models import Meta, Plan
from services.sync.lago.rules import Metric
from services.sync.upstreams.errors import UpstreamError
from services.sync.upstreams.http import Caller
from shared.runtime.clock import utc_now
from shared.web.client import UnsendableHeaderError, http_client

PLANS_A_PAGE: Final = 100
MOST_PAGES: Final = 10


class PlanPage(BaseModel):
    plans: list[Plan]
    meta: Meta = Meta()


_PLANS: Final = TypeAdapter(PlanPage)


async def check(target: Target) -> list[Result]:
    url, api_key = target.setting("sync", "lago_url"), target.setting("sync", "lago_api_key")
    if not url.startswith(("http://", "https://")):
        return rules.no_address()
    code, metric_property = target.setting("sync", "metric_code"), target.setting("sync", "metric_property")
    try:
        # Any key makes Lago say something; without one there would be no telling whether it is there.
        found = await ask(url, api_key or "none", code, metric_property)
    except UnsendableHeaderError:
        return unsendable("lago", rules.CHECKS, rules.API_KEY)
    except (httpx.InvalidURL, ValueError):
        return rules.no_address()
    results = rules.judge(found)
    return results if api_key or not found.organization.reachable else [results[0], *rules.no_key()]


def check_webhooks(target: Target) -> list[Result]:
    return [rules.webhooks(key=bool(target.setting("sync", "lago_webhook_key")))]


async def ask(url: str, api_key: str, code: str, metric_property: str) -> Found:
    """What Lago says; nothing is raised for what it does not."""
    lago = LagoClient(url, api_key=api_key, breaker=breaker(), watch=ignore, timeout_s=TIMEOUT_S)
    try:
        organization = await heard(lago.organization)
        if not organization.well:
            return Found(organization)
        gate = Gate(lago, metric=Metric(code, metric_property), clock=utc_now, object_to=lambda _error: None)
        opened, charging = await asyncio.gather(heard(gate.is_open), _charging_plan(url, api_key, code))
    finally:
        await lago.close()
    plans, plan, seen, more = charging
    return Found(
        organization,
        events_store=gate.events_store,
        code=code,
        property=metric_property,
        gate=opened,
        objection=gate.problem,
        plans=plans,
        plan=plan,
        plans_seen=seen,
        more_plans=more,
    )


async def _charging_plan(url: str, api_key: str, code: str) -> tuple[Heard, str | None, int, bool]:
    """A plan with a charge on this metric, how many plans were looked through, whether there are more."""
    seen = 0
    root = url.rstrip("/").removesuffix(API)
    headers = {"Authorization": f"Bearer {api_key}"}
    async with http_client(root, headers=headers, timeout_s=TIMEOUT_S) as client:
        caller = Caller("lago", client, breaker(), ignore)
        for page in range(1, MOST_PAGES + 1):
            query = {"page": page, "per_page": PLANS_A_PAGE}
            try:
                found = await caller.call("GET", f"{API}/plans", _PLANS, query=query)
            except UpstreamError as error:
                return Heard(error.reason, error.explanation), None, seen, True
            seen += len(found.plans)
            for plan in found.plans:
                if any(charge.billable_metric_code == code for charge in plan.charges):
                    return Heard(), plan.code, seen, False
            if found.meta.next_page is None:
                return Heard(), None, seen, False
    return Heard(), None, seen, True
