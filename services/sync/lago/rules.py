"""What is known of a subscription. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple

from services.sync.clocks import AHEAD

# Said once, it may be a mistake, and a link is not ended by mistake. Asked again at least so much later.
SAID_TWICE_AFTER: Final = timedelta(minutes=1)
# Lago cuts most times to the second when it answers.
SECOND: Final = timedelta(seconds=1)


class Metric(NamedTuple):
    """What bills: a metric's code, and the property that it sums up."""

    code: str
    property_name: str


def to_the_end(moment: datetime) -> datetime:
    """Lago writes a period's end to the second, and means all of it."""
    return moment.replace(microsecond=999_999) if moment.microsecond == 0 else moment


@dataclass(frozen=True, slots=True)
class Life:
    """One subscription's time under its external id: after an upgrade its successor has the same one.

    `period_from`: when its current billing period began; the invoices of those before are final.
    """

    external_customer_id: str
    started_at: datetime
    ended_at: datetime | None = None
    period_from: datetime | None = None

    def counts(
        self, at: datetime, stored_at: datetime | None, customer: str, period_to: datetime | None = None
    ) -> bool:
        """Whether it certainly bills to that customer an event of that moment, which Lago has since `stored_at`: it ran
        then, and the invoice was not final yet. `period_to` is the end of the billing period of that moment, where it
        is known: `period_from` may lie several periods later, and of one that ended Lago names none.
        """
        if period_to is not None and stored_at is not None and stored_at > period_to:
            return False
        if self.external_customer_id != customer or self.is_before(at):
            return False
        if self.ended_at is not None and at > self.ended_at:
            return False
        final = [self.ended_at] if self.ended_at is not None else []
        if self.period_from is not None and at < self.period_from:
            final.append(self.period_from)
        return all(stored_at is not None and stored_at < one for one in final)

    def is_before(self, at: datetime) -> bool:
        """Whether that moment may be before it began."""
        return at < (self.started_at if self.started_at.microsecond else self.started_at + SECOND)


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
    # On this metric it was asked about the plan's charges; None: before that was kept.
    metric_code: str | None = None
    has_charge: bool = False
    pay_in_advance: bool = False
    unit_price: Decimal | None = None
    currency: str | None = None
    # When Lago first said that it has none at all.
    gone_at: datetime | None = None

    def is_older(self, now: datetime, age: timedelta) -> bool:
        """Whether Lago has to be asked again, to know what it said within that time."""
        return not -AHEAD < now - self.checked_at < age

    def is_about(self, metric: Metric) -> bool:
        """Whether what it says of charges is about that metric; where Lago has none active, it says nothing of any."""
        return not self.active or self.metric_code == metric.code

    def is_over(self, now: datetime) -> bool:
        """Whether the period that Lago told of has ended since, or the subscription itself. Where it goes on telling of
        one that is over, it is taken at its word.
        """
        ends = [to_the_end(one) for one in (self.period_to, self.ended_at) if one is not None]
        return any(self.checked_at <= end < now for end in ends)

    def life(self) -> Life | None:
        """Its own time; None where Lago knows none, or none that has begun."""
        if self.external_customer_id is None or self.started_at is None:
            return None
        if self.active:
            return Life(self.external_customer_id, self.started_at, self.ended_at, self.period_from)
        if self.gone_at is not None or self.ended_at is None or self.ended_at > self.checked_at:
            return None
        return Life(self.external_customer_id, self.started_at, self.ended_at)

    def period_of(self, at: datetime) -> datetime | None:
        """When the billing period of that moment ends; None where Lago told of another period."""
        if self.period_from is None or self.period_to is None:
            return None
        end = to_the_end(self.period_to)
        return end if self.period_from <= at <= end else None

    def knows_period_of(self, at: datetime) -> bool:
        """False: it was said of a period that was over by then, before then. Asked again, Lago names the next one."""
        return self.period_to is None or at <= to_the_end(self.period_to) or self.checked_at > at

    def over_at(self) -> datetime | None:
        """When it ended; None where it has not, or where Lago said once only that there is none."""
        if self.active:
            return None
        if self.gone_at is not None:
            return self.gone_at if self.checked_at - self.gone_at >= SAID_TWICE_AFTER else None
        return self.ended_at
