"""What Lago answers and takes, as far as this house needs it (facts: Lago)."""

import re
from decimal import Decimal
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict

from shared.contracts.requests.sync import SubscriptionView

# What Lago counts; anything else in a property is skipped there (facts 7).
_PLAIN: Final = re.compile(r"-?\d+(\.\d+)?")


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class UsageEvent(_Model):
    """One event as it is sent. `timestamp` is Unix seconds with milliseconds, as text; numbers are plain decimals."""

    transaction_id: str
    external_subscription_id: str
    code: str
    timestamp: str
    properties: dict[str, str]


class StoredEvent(_Model):
    """An event as Lago keeps it. Whether it counts is not said (docs/decisions/0021); `created_at` is to the second."""

    transaction_id: str
    external_subscription_id: str | None = None
    code: str
    timestamp: AwareDatetime
    created_at: AwareDatetime | None = None
    properties: dict[str, Any] = {}

    def number(self, name: str) -> Decimal | None:
        """The value of a property; None where Lago would not count it as a number."""
        text = str(self.properties.get(name))
        return Decimal(text) if _PLAIN.fullmatch(text) else None


class Meta(_Model):
    next_page: int | None = None
    total_count: int = 0


class EventPage(_Model):
    events: list[StoredEvent]
    meta: Meta = Meta()


class EventAnswer(_Model):
    event: StoredEvent


class Charge(_Model):
    billable_metric_code: str
    charge_model: str = "standard"
    pay_in_advance: bool = False
    properties: dict[str, Any] = {}

    @property
    def bills(self) -> bool:
        """Whether it bills what is sent: the dynamic model wants a price with each event, and bills 0 without."""
        return self.charge_model != "dynamic"

    def unit_price(self) -> Decimal | None:
        """The price of one unit in the plan's currency; None for models where a unit has no single price."""
        amount = self.properties.get("amount") if self.charge_model == "standard" else None
        return Decimal(amount) if isinstance(amount, str) else None


class Plan(_Model):
    code: str
    amount_currency: str | None = None
    charges: list[Charge] = []


class PlanAnswer(_Model):
    plan: Plan


class Subscription(_Model):
    external_id: str
    external_customer_id: str
    name: str | None = None
    plan_code: str
    status: str
    started_at: AwareDatetime | None = None
    ending_at: AwareDatetime | None = None
    terminated_at: AwareDatetime | None = None
    current_billing_period_started_at: AwareDatetime | None = None
    current_billing_period_ending_at: AwareDatetime | None = None
    plan: Plan | None = None

    def view(self) -> SubscriptionView:
        return SubscriptionView(
            external_subscription_id=self.external_id,
            external_customer_id=self.external_customer_id,
            status=self.status,
            plan_code=self.plan_code,
            name=self.name,
            started_at=self.started_at,
            ending_at=self.ending_at,
        )


class SubscriptionAnswer(_Model):
    subscription: Subscription


class SubscriptionPage(_Model):
    subscriptions: list[Subscription]
    meta: Meta = Meta()


class Customer(_Model):
    external_id: str
    name: str | None = None


class CustomerPage(_Model):
    customers: list[Customer]
    meta: Meta = Meta()


class Metric(_Model):
    code: str
    aggregation_type: str
    field_name: str | None = None
    recurring: bool = False


class MetricAnswer(_Model):
    billable_metric: Metric


class Organization(_Model):
    lago_id: str | None = None
    name: str | None = None
    events_store: str = "postgres"


class OrganizationAnswer(_Model):
    organization: Organization


class MetricName(_Model):
    code: str


class ChargeUsage(_Model):
    units: Decimal
    events_count: int
    billable_metric: MetricName


class Usage(_Model):
    from_datetime: AwareDatetime
    to_datetime: AwareDatetime
    charges_usage: list[ChargeUsage] = []


class UsageAnswer(_Model):
    customer_usage: Usage


class _PortalUrl(_Model):
    portal_url: str


class PortalAnswer(_Model):
    customer: _PortalUrl


class _PublicKey(_Model):
    public_key: str


class PublicKeyAnswer(_Model):
    webhook: _PublicKey


class Accepted(_Model):
    """The answer to a batch: that it came is all that matters."""
