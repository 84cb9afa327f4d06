"""The rest of Lago's API that an integration reads: customers, subscriptions, usage, plans, invoices."""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.lago import answers, views
from deploy.demo.lago.model import STATUSES, Customer, Subscription
from deploy.demo.lago.state import LagoState


class ReadApi:
    """Args:
    state: the organisation.
    url: gives the address the simulator listens on.
    public_key: gives the PEM of the key that signs webhooks, base64.
    """

    def __init__(self, state: LagoState, url: Callable[[], str], public_key: Callable[[], str]) -> None:
        self._state = state
        self._url = url
        self._public_key = public_key

    def routes(self) -> list[Route]:
        customer = "/customers/{external_id}"
        return [
            Route("/customers", self.customers, methods=["GET"]),
            Route(customer, self.customer, methods=["GET"]),
            Route(f"{customer}/current_usage", self.current_usage, methods=["GET"]),
            Route(f"{customer}/portal_url", self.portal_url, methods=["GET"]),
            Route(f"{customer}/subscriptions", self.customer_subscriptions, methods=["GET"]),
            Route(f"{customer}/invoices", self.customer_invoices, methods=["GET"]),
            Route(f"{customer}/wallets", self.customer_wallets, methods=["GET"]),
            Route("/subscriptions", self.subscriptions, methods=["GET"]),
            Route("/subscriptions/{external_id}", self.subscription, methods=["GET"]),
            Route("/billable_metrics", self.metrics, methods=["GET"]),
            Route("/billable_metrics/{code}", self.metric, methods=["GET"]),
            Route("/plans", self.plans, methods=["GET"]),
            Route("/plans/{code}", self.plan, methods=["GET"]),
            Route("/invoices", self.invoices, methods=["GET"]),
            Route("/invoices/{lago_id}", self.invoice, methods=["GET"]),
            Route("/wallets", self.wallets, methods=["GET"]),
            Route("/wallets/{lago_id}", self.wallet, methods=["GET"]),
            Route("/wallets/{lago_id}/wallet_transactions", self.wallet_transactions, methods=["GET"]),
            Route("/organizations", self.organization, methods=["GET"]),
            Route("/webhooks/json_public_key", self.json_public_key, methods=["GET"]),
        ]

    async def customers(self, request: Request) -> Response:
        wanted = request.query_params.get("external_id")
        term = request.query_params.get("search_term", "").lower()
        found = [
            one
            for one in self._state.customers.values()
            if wanted in (None, "", one.external_id) and (not term or _matches(one, term))
        ]
        found.sort(key=lambda one: -one.created_us)
        return answers.page("customers", found, request.query_params, lambda one: views.customer(self._state, one))

    async def customer(self, request: Request) -> Response:
        external_id = request.path_params["external_id"]
        # Rails takes what follows the dot for a format: "a.b" asks for customer "a", "a.b.c" has no route.
        name, *formats = external_id.split(".")
        if len(formats) > 1:
            return answers.no_route()
        one = self._state.customers.get(name)
        if one is None:
            return answers.not_found("customer")
        return answers.json({"customer": views.customer(self._state, one)})

    async def current_usage(self, request: Request) -> Response:
        one = self._nested_customer(request)
        if isinstance(one, Response):
            return one
        subscription = self._state.find_subscription(request.query_params.get("external_subscription_id", ""))
        if subscription is None or subscription.external_customer_id != one.external_id:
            return answers.not_allowed("no_active_subscription")
        period = self._state.current_period(subscription)
        usage = self._state.usage(subscription, period)
        return answers.json({"customer_usage": views.usage(self._state, subscription, period, usage)})

    async def portal_url(self, request: Request) -> Response:
        one = self._nested_customer(request)
        if isinstance(one, Response):
            return one
        return answers.json({"customer": {"portal_url": f"{self._url()}/customer-portal/{one.lago_id}"}})

    async def customer_subscriptions(self, request: Request) -> Response:
        one = self._nested_customer(request)
        return one if isinstance(one, Response) else self._subscription_page(request, one.external_id)

    async def customer_invoices(self, request: Request) -> Response:
        one = self._nested_customer(request)
        return one if isinstance(one, Response) else self._invoice_page(request, one.external_id)

    async def customer_wallets(self, request: Request) -> Response:
        one = self._nested_customer(request)
        return one if isinstance(one, Response) else self._wallet_page(request, one.external_id)

    async def subscriptions(self, request: Request) -> Response:
        return self._subscription_page(request, request.query_params.get("external_customer_id") or None)

    async def subscription(self, request: Request) -> Response:
        status = request.query_params.get("status") or "active"
        one = self._state.find_subscription(request.path_params["external_id"], status)
        if one is None:
            return answers.not_found("subscription")
        view = views.subscription(self._state, one)
        view["plan"] = views.plan(self._state, self._state.plans[one.plan_code])
        return answers.json({"subscription": view})

    async def metrics(self, request: Request) -> Response:
        return answers.page("billable_metrics", list(self._state.metrics.values()), request.query_params, views.metric)

    async def metric(self, request: Request) -> Response:
        one = self._state.metrics.get(request.path_params["code"])
        if one is None:
            return answers.not_found("billable_metric")
        return answers.json({"billable_metric": views.metric(one)})

    async def plans(self, request: Request) -> Response:
        found = list(self._state.plans.values())
        return answers.page("plans", found, request.query_params, lambda one: views.plan(self._state, one))

    async def plan(self, request: Request) -> Response:
        one = self._state.plans.get(request.path_params["code"])
        return answers.not_found("plan") if one is None else answers.json({"plan": views.plan(self._state, one)})

    async def invoices(self, request: Request) -> Response:
        return self._invoice_page(request, request.query_params.get("external_customer_id") or None)

    async def invoice(self, request: Request) -> Response:
        for one in self._state.invoices:
            if one.lago_id == request.path_params["lago_id"]:
                return answers.json({"invoice": views.invoice(self._state, one)})
        return answers.not_found("invoice")

    async def wallets(self, request: Request) -> Response:
        return self._wallet_page(request, request.query_params.get("external_customer_id") or None)

    async def wallet(self, request: Request) -> Response:
        one = self._state.wallets.get(request.path_params["lago_id"])
        if one is None:
            return answers.not_found("wallet")
        return answers.json({"wallet": views.wallet(self._state, one)})

    async def wallet_transactions(self, request: Request) -> Response:
        wallet_id = request.path_params["lago_id"]
        if wallet_id not in self._state.wallets:
            return answers.not_found("wallet")
        found = [one for one in reversed(self._state.wallet_transactions) if one.wallet_id == wallet_id]
        return answers.page("wallet_transactions", found, request.query_params, views.wallet_transaction)

    async def organization(self, request: Request) -> Response:
        del request
        return answers.json({"organization": views.organization(self._state)})

    async def json_public_key(self, request: Request) -> Response:
        del request
        return answers.json({"webhook": {"public_key": self._public_key()}})

    def _nested_customer(self, request: Request) -> Customer | Response:
        external_id = request.path_params["external_id"]
        if "." in external_id:
            return answers.no_route()
        one = self._state.customers.get(external_id)
        return answers.not_found("customer") if one is None else one

    def _subscription_page(self, request: Request, external_customer_id: str | None) -> Response:
        query = request.query_params
        everything = self._state.subscriptions
        if external_customer_id is not None:
            everything = self._state.subscriptions_of(external_customer_id)
        statuses = query.getlist("status[]") or ["active"]
        if not set(statuses) <= set(STATUSES):
            statuses = list(STATUSES)  # one invalid value switches the filter off
        plan = query.get("plan_code")
        found = [one for one in everything if one.status in statuses and plan in (None, "", one.plan_code)]
        found.sort(key=_started, reverse=True)
        return answers.page("subscriptions", found, query, lambda one: views.subscription(self._state, one))

    def _invoice_page(self, request: Request, external_customer_id: str | None) -> Response:
        query = request.query_params
        statuses, payments = query.getlist("statuses[]"), query.getlist("payment_statuses[]")
        found = [
            one
            for one in reversed(self._state.invoices)
            if external_customer_id in (None, one.external_customer_id)
            and (not statuses or one.status in statuses)
            and (not payments or one.payment_status in payments)
        ]
        return answers.page("invoices", found, query, lambda one: views.invoice(self._state, one))

    def _wallet_page(self, request: Request, external_customer_id: str | None) -> Response:
        found: list[Any] = [
            one for one in self._state.wallets.values() if external_customer_id in (None, one.external_customer_id)
        ]
        return answers.page("wallets", found, request.query_params, lambda one: views.wallet(self._state, one))


def _matches(customer: Customer, term: str) -> bool:
    return any(term in (text or "").lower() for text in (customer.name, customer.external_id, customer.email))


def _started(subscription: Subscription) -> int:
    return subscription.started_us or subscription.subscription_us
