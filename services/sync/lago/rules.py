"""What is known of a subscription. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

# Said once, it may be a mistake, and a link is not ended by mistake. Asked again at least so much later.
SAID_TWICE_AFTER: Final = timedelta(minutes=1)


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
    # When Lago first said that it has none at all.
    gone_at: datetime | None = None

    def over_at(self) -> datetime | None:
        """When it ended; None where it has not, or where Lago said once only that there is none."""
        if self.active:
            return None
        if self.gone_at is not None:
            return self.gone_at if self.checked_at - self.gone_at >= SAID_TWICE_AFTER else None
        return self.ended_at
