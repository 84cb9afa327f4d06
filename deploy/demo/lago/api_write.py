"""The changes an integration or its operator makes through Lago's API; not needed to deliver usage."""

import re
from decimal import Decimal
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.lago import answers, lifecycle, views
from deploy.demo.lago.model import Customer, Wallet, WalletTransaction
from deploy.demo.lago.state import LagoState
from deploy.demo.lago.values import read_iso, units

_CREDITS: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
_MANDATORY: Final = ["value_is_mandatory"]
_SUBSCRIPTION_FIELDS: Final = ("external_id", "external_customer_id", "plan_code")
_CUSTOMER_FIELDS: Final = ("name", "email", "currency")


class WriteApi:
    def __init__(self, state: LagoState) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        return [
            Route("/customers", self.upsert_customer, methods=["POST"]),
            Route("/subscriptions", self.create_subscription, methods=["POST"]),
            Route("/subscriptions/{external_id}", self.terminate, methods=["DELETE"]),
            Route("/wallets", self.create_wallet, methods=["POST"]),
            Route("/wallet_transactions", self.top_up, methods=["POST"]),
        ]

    async def upsert_customer(self, request: Request) -> Response:
        """Creates, or changes what has the same external id."""
        given = await answers.read_envelope(request, "customer")
        if not isinstance(given, dict) or not given:
            return answers.missing("customer")
        external_id = given.get("external_id")
        if not isinstance(external_id, str) or not external_id.strip():
            return answers.invalid({"external_id": _MANDATORY})
        now = self._state.now_us()
        one = self._state.customers.get(external_id)
        event = "customer.updated" if one is not None else "customer.created"
        if one is None:
            number = len(self._state.customers) + 1
            one = Customer(external_id=external_id, sequential_id=number, created_us=now, updated_us=now)
        for name in _CUSTOMER_FIELDS:
            if name in given:
                setattr(one, name, given[name])
        one.details = {**one.details, **_details(given)}
        one.updated_us = now
        self._state.save(one)
        self._state.notify(event, one)
        return answers.json({"customer": views.customer(self._state, one)})

    async def create_subscription(self, request: Request) -> Response:
        given = await answers.read_envelope(request, "subscription")
        if not isinstance(given, dict) or not given:
            return answers.missing("subscription")
        refusal = self._refuse_subscription(given)
        if refusal is not None:
            return refusal
        try:
            starts, ends = _instant(given, "subscription_at"), _instant(given, "ending_at")
        except ValueError:
            return answers.invalid({"subscription_at": ["invalid_date"]})
        one = lifecycle.create_subscription(
            self._state,
            external_id=given["external_id"],
            external_customer_id=given["external_customer_id"],
            plan_code=given["plan_code"],
            name=given.get("name"),
            billing_time="anniversary" if given.get("billing_time") == "anniversary" else "calendar",
            subscription_us=starts,
            ending_us=ends,
        )
        return answers.json({"subscription": views.subscription(self._state, one)})

    def _refuse_subscription(self, given: dict[str, Any]) -> Response | None:
        missing = [name for name in _SUBSCRIPTION_FIELDS if not isinstance(given.get(name), str) or not given[name]]
        if missing:
            return answers.invalid(dict.fromkeys(missing, _MANDATORY))
        if given["external_customer_id"] not in self._state.customers:
            return answers.not_found("customer")
        if given["plan_code"] not in self._state.plans:
            return answers.not_found("plan")
        if self._state.find_subscription(given["external_id"]) is not None:
            # Lago takes the same external id for a change of plan; here that is `POST /_sim/upgrade`.
            return answers.invalid({"external_id": ["value_already_exist"]})
        if given.get("billing_time") not in (None, "calendar", "anniversary"):
            return answers.invalid({"billing_time": ["value_is_invalid"]})
        return None

    async def terminate(self, request: Request) -> Response:
        external_id = request.path_params["external_id"]
        try:
            if request.query_params.get("status") == "pending":
                one = lifecycle.cancel_pending(self._state, external_id)
            else:
                one = lifecycle.terminate(self._state, external_id)
        except lifecycle.NoSuchSubscriptionError:
            return answers.not_found("subscription")
        return answers.json({"subscription": views.subscription(self._state, one)})

    async def create_wallet(self, request: Request) -> Response:
        given = await answers.read_envelope(request, "wallet")
        if not isinstance(given, dict) or not given:
            return answers.missing("wallet")
        if given.get("external_customer_id") not in self._state.customers:
            return answers.invalid({"customer": ["customer_not_found"]})
        if any(not _credits_ok(given.get(name)) for name in ("rate_amount", "granted_credits")):
            return answers.invalid({"rate_amount": ["invalid_format"]})
        one = Wallet(
            external_customer_id=given["external_customer_id"],
            created_us=self._state.now_us(),
            name=given.get("name"),
            currency=given.get("currency") or "EUR",
            rate_amount=units(Decimal(given.get("rate_amount") or "1")),
            credits=units(Decimal(given.get("granted_credits") or "0")),
        )
        self._state.save(one)
        return answers.json({"wallet": views.wallet(self._state, one)})

    async def top_up(self, request: Request) -> Response:
        """Each call is another top-up: there is no key that would make a retry harmless."""
        given = await answers.read_envelope(request, "wallet_transaction")
        if not isinstance(given, dict) or not given:
            return answers.missing("wallet_transaction")
        wallet = self._state.wallets.get(str(given.get("wallet_id")))
        if wallet is None:
            return answers.invalid({"wallet_id": ["wallet_not_found"]})
        for name in ("paid_credits", "granted_credits", "voided_credits"):
            if not _credits_ok(given.get(name)):
                return answers.invalid({name: [f"invalid_{name}"]})
        made = [
            self._transaction(wallet, Decimal(given[name]), name, given.get("name"))
            for name in ("paid_credits", "granted_credits", "voided_credits")
            if given.get(name) and Decimal(given[name]) > 0
        ]
        return answers.json({"wallet_transactions": [views.wallet_transaction(one) for one in made]})

    def _transaction(self, wallet: Wallet, amount: Decimal, source: str, name: str | None) -> WalletTransaction:
        one = WalletTransaction(
            wallet_id=wallet.lago_id,
            created_us=self._state.now_us(),
            credits=units(amount),
            amount=units(amount * Decimal(wallet.rate_amount)),
            transaction_status="purchased" if source == "paid_credits" else "granted",
            # Bought credits count when their invoice is paid.
            status="pending" if source == "paid_credits" else "settled",
            name=name,
        )
        if source == "voided_credits":
            one.transaction_status, one.transaction_type = "voided", "outbound"
        if source != "paid_credits":
            sign = -1 if source == "voided_credits" else 1
            wallet.credits = units(max(Decimal(wallet.credits) + sign * amount, Decimal(0)))
            self._state.save(wallet)
        self._state.save(one)
        return one


def _details(given: dict[str, Any]) -> dict[str, Any]:
    known = {
        "address_line1", "address_line2", "city", "country", "firstname", "lastname", "legal_name",
        "legal_number", "phone", "state", "timezone", "url", "zipcode", "tax_identification_number",
    }  # fmt: skip
    return {name: value for name, value in given.items() if name in known}


def _instant(given: dict[str, Any], name: str) -> int | None:
    """An ISO 8601 field as microseconds. Raises ValueError."""
    value = given.get(name)
    return read_iso(str(value)) if value else None


def _credits_ok(value: object) -> bool:
    return value is None or (isinstance(value, str) and _CREDITS.fullmatch(value) is not None)
