"""What a Lago organisation holds. Instants are integer microseconds since the epoch (`values.py`)."""

from typing import Any, Final, Literal
from uuid import uuid4

import msgspec

Status = Literal["pending", "active", "terminated", "canceled", "incomplete"]
STATUSES: Final = ("pending", "active", "terminated", "canceled", "incomplete")
Interval = Literal["weekly", "monthly", "quarterly", "semiannual", "yearly"]
Aggregation = Literal["sum_agg", "count_agg"]  # the others are not simulated
ChargeModel = Literal["standard", "dynamic"]  # the others are not simulated


def new_id() -> str:
    return str(uuid4())


class Customer(msgspec.Struct, kw_only=True):
    external_id: str
    sequential_id: int
    created_us: int
    updated_us: int
    lago_id: str = msgspec.field(default_factory=new_id)
    name: str | None = None
    email: str | None = None
    currency: str | None = None
    details: dict[str, Any] = {}  # addresses and the like, echoed as given


class Metric(msgspec.Struct, kw_only=True):
    code: str
    name: str
    created_us: int
    lago_id: str = msgspec.field(default_factory=new_id)
    aggregation_type: Aggregation = "sum_agg"
    field_name: str | None = None
    recurring: bool = False  # its sum is carried over into each next period
    expression: str | None = None  # its variables must be in the event, else the event is refused


class Charge(msgspec.Struct, kw_only=True):
    metric_code: str
    created_us: int
    lago_id: str = msgspec.field(default_factory=new_id)
    charge_model: ChargeModel = "standard"
    amount: str = "0"  # price of a unit in the currency, a decimal string; the dynamic model has none
    pay_in_advance: bool = False
    invoice_display_name: str | None = None


class Plan(msgspec.Struct, kw_only=True):
    code: str
    name: str
    created_us: int
    lago_id: str = msgspec.field(default_factory=new_id)
    interval: Interval = "monthly"
    amount_cents: int = 0
    currency: str = "EUR"
    charges: list[Charge] = []


class FinalPeriod(msgspec.Struct, kw_only=True):
    """A span whose invoice is final: an event in it that was stored after `at_us` is never billed (fact 4)."""

    from_us: int
    to_us: int  # inclusive
    at_us: int
    invoice_id: str | None = None


class Subscription(msgspec.Struct, kw_only=True):
    external_id: str
    external_customer_id: str
    plan_code: str
    created_us: int
    subscription_us: int
    lago_id: str = msgspec.field(default_factory=new_id)
    name: str | None = None
    status: Status = "active"
    billing_time: Literal["calendar", "anniversary"] = "calendar"
    started_us: int | None = None
    terminated_us: int | None = None
    canceled_us: int | None = None
    ending_us: int | None = None
    previous_plan_code: str | None = None
    next_plan_code: str | None = None
    downgrade_us: int | None = None
    final_periods: list[FinalPeriod] = []


class Invoice(msgspec.Struct, kw_only=True):
    external_customer_id: str
    sequential_id: int
    number: str
    created_us: int
    issuing_us: int
    lago_id: str = msgspec.field(default_factory=new_id)
    external_subscription_id: str | None = None
    invoice_type: str = "subscription"
    status: str = "finalized"
    payment_status: str = "pending"
    currency: str = "EUR"
    fees_amount_cents: int = 0
    taxes_amount_cents: int = 0
    total_amount_cents: int = 0
    lines: list[dict[str, Any]] = []  # metric code, units, events and cents of each charge


class Wallet(msgspec.Struct, kw_only=True):
    external_customer_id: str
    created_us: int
    lago_id: str = msgspec.field(default_factory=new_id)
    name: str | None = None
    status: Literal["active", "terminated"] = "active"
    currency: str = "EUR"
    rate_amount: str = "1.0"
    credits: str = "0.0"
    consumed_credits: str = "0.0"


class WalletTransaction(msgspec.Struct, kw_only=True):
    wallet_id: str
    created_us: int
    credits: str
    amount: str
    transaction_status: Literal["purchased", "granted", "voided"]
    status: Literal["pending", "settled"]
    transaction_type: Literal["inbound", "outbound"] = "inbound"
    lago_id: str = msgspec.field(default_factory=new_id)
    name: str | None = None


class Event(msgspec.Struct, kw_only=True):
    transaction_id: str
    external_subscription_id: str | None
    code: str
    timestamp_us: int
    properties: dict[str, Any]
    created_us: int
    lago_id: str = msgspec.field(default_factory=new_id)
    precise_total_amount_cents: str | None = None
    seq: int = 0  # order of arrival
