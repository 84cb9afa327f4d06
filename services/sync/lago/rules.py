"""What is known of a subscription. Pure."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Subscribed:
    """What Lago last said about a subscription. Not `active`: it knows no active one of this id."""

    external_subscription_id: str
    active: bool
    checked_at: datetime
    external_customer_id: str | None = None
    plan_code: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    period_from: datetime | None = None
    period_to: datetime | None = None
    has_charge: bool = False
    pay_in_advance: bool = False
    unit_price: Decimal | None = None
    currency: str | None = None
