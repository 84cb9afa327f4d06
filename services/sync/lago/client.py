"""Lago's API, asked by nobody but this service (facts: Lago)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
from aiolimiter import AsyncLimiter
from pydantic import TypeAdapter

from services.sync.lago import models
from services.sync.lago.rules import Life
from services.sync.upstreams.breaker import Breaker
from services.sync.upstreams.errors import RefusedError
from services.sync.upstreams.http import Caller, Query, Watch
from shared.web.client import http_client

API: Final = "/api/v1"
MAX_BATCH: Final = 100
DUPLICATE: Final = "value_already_exist"
# What Lago itself says of what it does not have. A 404 without such a code comes from a gateway, or a wrong address.
NOT_FOUND: Final = frozenset(
    f"{resource}_not_found" for resource in ("billable_metric", "customer", "event", "plan", "subscription")
)

T = TypeVar("T")

_ACCEPTED = TypeAdapter(models.Accepted)
_EVENTS, _EVENT = TypeAdapter(models.EventPage), TypeAdapter(models.EventAnswer)
_SUBSCRIPTION, _SUBSCRIPTIONS = TypeAdapter(models.SubscriptionAnswer), TypeAdapter(models.SubscriptionPage)
_CUSTOMERS, _METRIC, _PLAN = (
    TypeAdapter(models.CustomerPage),
    TypeAdapter(models.MetricAnswer),
    TypeAdapter(models.PlanAnswer),
)
_ORGANIZATION, _USAGE = TypeAdapter(models.OrganizationAnswer), TypeAdapter(models.UsageAnswer)
_PORTAL, _PUBLIC_KEY = TypeAdapter(models.PortalAnswer), TypeAdapter(models.PublicKeyAnswer)
_BATCH = TypeAdapter(dict[str, list[models.UsageEvent]])


@dataclass(frozen=True, slots=True)
class BatchRefused:
    """A batch of which nothing was stored: indexes that exist already, and what is wrong with others."""

    duplicates: frozenset[int] = frozenset()
    wrong: dict[int, str] = field(default_factory=dict)


class LagoClient:
    """All calls raise `UpstreamError`s. `urgent`: a person waits, so ask even while the circuit is open."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str,
        breaker: Breaker,
        watch: Watch,
        timeout_s: float = 10.0,
        connections: int = 8,
        requests_per_s: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        client = http_client(
            base_url.rstrip("/").removesuffix(API),
            headers={"Authorization": f"Bearer {api_key}"},
            timeout_s=timeout_s,
            connections=connections,
            transport=transport,
        )
        # A tenth of a second's worth at once, the rest spread out.
        budget = AsyncLimiter(max(requests_per_s / 10, 1), 0.1) if requests_per_s is not None else None
        self._caller = Caller("lago", client, breaker, watch, budget, is_its_own=is_its_own)

    async def close(self) -> None:
        await self._caller.close()

    @property
    def is_failing(self) -> bool:
        """Whether Lago fails on whatever it is asked for."""
        return self._caller.is_failing

    @property
    def is_left_alone(self) -> bool:
        """Whether Lago is not asked for now: it failed repeatedly, or has a rate limit."""
        return self._caller.is_left_alone

    @property
    def requests(self) -> int:
        """How many requests were sent so far."""
        return self._caller.requests

    async def send(self, events: Sequence[models.UsageEvent]) -> BatchRefused | None:
        """Post up to 100 events, all or nothing. None: all are stored.

        :raises UpstreamError: they may be stored or not.
        """
        body = _BATCH.dump_json({"events": list(events)})
        try:
            await self._caller.call("POST", f"{API}/events/batch", _ACCEPTED, body=body)
        except RefusedError as error:
            details = error.body.get("error_details")
            if error.status != 422 or not isinstance(details, dict):
                raise
            refused = read_batch_errors(details, len(events))
            if refused is None:
                raise
            return refused
        return None

    async def stored_event(self, transaction_id: str) -> models.StoredEvent | None:
        """The first event with this id under *any* subscription: compare its subscription."""
        answer = await self._found(f"{API}/events/{_segment(transaction_id)}", _EVENT)
        return answer.event if answer is not None else None

    async def stored_events(
        self, external_subscription_id: str, code: str | None, since: datetime, until: datetime, *, page: int = 1
    ) -> models.EventPage:
        """One page of at most 1,000 events of a subscription, stamped from `since` to `until`, both included."""
        query: dict[str, str | int | Sequence[str]] = {
            "external_subscription_id": external_subscription_id,
            "timestamp_from": _iso(since),
            "timestamp_to": _iso(until),
            "page": page,
            "per_page": 1000,
        }
        if code is not None:
            query["code"] = code
        return await self._caller.call("GET", f"{API}/events", _EVENTS, query=query)

    async def subscription(
        self, external_id: str, *, status: str = "active", urgent: bool = False
    ) -> models.Subscription | None:
        """The subscription of this id in this status, with its plan; None where there is none."""
        path = f"{API}/subscriptions/{_segment(external_id)}"
        answer = await self._found(path, _SUBSCRIPTION, query={"status": status}, urgent=urgent)
        if answer is None or answer.subscription.status != status:
            return None
        return answer.subscription

    async def subscriptions(
        self,
        external_customer_id: str | None,
        *,
        statuses: Sequence[str] = ("active",),
        page: int = 1,
        urgent: bool = False,
    ) -> models.SubscriptionPage:
        """Subscriptions in these statuses. An invalid one switches Lago's filter off, so it is applied again."""
        query: dict[str, str | int | Sequence[str]] = {"status[]": list(statuses), "page": page, "per_page": 100}
        if external_customer_id is not None:
            query["external_customer_id"] = external_customer_id
        found = await self._caller.call("GET", f"{API}/subscriptions", _SUBSCRIPTIONS, query=query, urgent=urgent)
        kept = [one for one in found.subscriptions if one.status in statuses]
        return models.SubscriptionPage(subscriptions=kept, meta=found.meta)

    async def lives(self, external_id: str, external_customer_id: str) -> list[Life]:
        """All subscriptions that a customer ever had running under this id."""
        found: list[models.Subscription] = []
        page: int | None = 1
        while page is not None:
            answer = await self.subscriptions(external_customer_id, statuses=("active", "terminated"), page=page)
            found += [one for one in answer.subscriptions if one.external_id == external_id]
            page = answer.meta.next_page
        return [
            Life(
                one.external_customer_id,
                one.started_at,
                one.terminated_at or one.ending_at,
                one.current_billing_period_started_at,
            )
            for one in found
            if one.started_at is not None
        ]

    async def customers(self, term: str | None, *, page: int, per_page: int) -> models.CustomerPage:
        query: dict[str, str | int | Sequence[str]] = {"page": page, "per_page": per_page}
        if term:
            query["search_term"] = term
        return await self._caller.call("GET", f"{API}/customers", _CUSTOMERS, query=query, urgent=True)

    async def customer(self, external_id: str) -> models.CustomerPage:
        """The customer of this id, or none, by a query: a path cannot hold every id."""
        query = {"external_id": external_id}
        found = await self._caller.call("GET", f"{API}/customers", _CUSTOMERS, query=query, urgent=True)
        return found.model_copy(
            update={"customers": [one for one in found.customers if one.external_id == external_id]}
        )

    async def metric(self, code: str) -> models.Metric | None:
        answer = await self._found(f"{API}/billable_metrics/{_segment(code)}", _METRIC)
        return answer.billable_metric if answer is not None else None

    async def plan(self, code: str) -> models.Plan | None:
        answer = await self._found(f"{API}/plans/{_segment(code)}", _PLAN)
        return answer.plan if answer is not None else None

    async def organization(self) -> models.Organization:
        answer = await self._caller.call("GET", f"{API}/organizations", _ORGANIZATION)
        return answer.organization

    async def current_usage(self, external_customer_id: str, external_subscription_id: str) -> models.Usage | None:
        """None: no active subscription of this id."""
        path = f"{API}/customers/{_segment(external_customer_id)}/current_usage"
        query = {"external_subscription_id": external_subscription_id}
        try:
            answer = await self._caller.call("GET", path, _USAGE, query=query)
        except RefusedError as error:
            if error.status in {404, 405}:
                return None
            raise
        return answer.customer_usage

    async def portal_url(self, external_customer_id: str) -> str | None:
        path = f"{API}/customers/{_segment(external_customer_id)}/portal_url"
        answer = await self._found(path, _PORTAL, urgent=True)
        return answer.customer.portal_url if answer is not None else None

    async def webhook_public_key(self) -> str:
        """PEM in base64, with line breaks (facts: webhooks)."""
        answer = await self._caller.call("GET", f"{API}/webhooks/json_public_key", _PUBLIC_KEY)
        return answer.webhook.public_key

    async def probe(self) -> None:
        await self.organization()

    async def _found(
        self, path: str, form: TypeAdapter[T], *, query: Query | None = None, urgent: bool = False
    ) -> T | None:
        try:
            return await self._caller.call("GET", path, form, query=query, urgent=urgent)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise


def is_its_own(path: str, body: Mapping[str, Any]) -> bool:
    """Whether Lago itself answered this 404. It has no route for a customer in whose id there is a dot: that is about
    this one customer.
    """
    return body.get("code") in NOT_FOUND or (f"{API}/customers/" in path and "." in path.partition(API)[2])


def read_batch_errors(details: dict[str, Any], size: int) -> BatchRefused | None:
    """Lago's errors by index, which it writes as text (facts 2). None where they are not by index.

    An event with more wrong with it than being there already is wrong.
    """
    duplicates: set[int] = set()
    wrong: dict[int, str] = {}
    for index, problem in details.items():
        if not index.isdigit() or int(index) >= size:
            return None
        if problem == {"transaction_id": [DUPLICATE]}:
            duplicates.add(int(index))
        else:
            wrong[int(index)] = str(problem)
    return BatchRefused(frozenset(duplicates), wrong) if details else None


def _segment(text: str) -> str:
    return quote(text, safe="")


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
