"""Which stored events Lago bills, and for how much. Pure: values in, values out."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from deploy.demo.lago.model import Charge, Event, Metric, Plan, Subscription
from deploy.demo.lago.values import cents, counted_number, from_datetime, to_datetime

_MONTHS: Final = {"monthly": 1, "quarterly": 3, "semiannual": 6, "yearly": 12}
_ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Period:
    """A billing period; both ends included, microseconds."""

    from_us: int
    to_us: int


@dataclass(frozen=True, slots=True)
class ChargeUsage:
    """What one charge of a plan counted in a span."""

    charge: Charge
    metric: Metric
    units: Decimal  # never negative: a net total below zero is clamped (fact 5)
    events_count: int
    amount_cents: int


def period_at(subscription: Subscription, plan: Plan, now_us: int) -> Period:
    """The billing period of a subscription around an instant, cut off at its start and its end."""
    now = to_datetime(now_us)
    anchor = to_datetime(subscription.subscription_us)
    if plan.interval == "weekly":
        start = _week_start(now, anchor if subscription.billing_time == "anniversary" else None)
        following = start + timedelta(days=7)
    else:
        months = _MONTHS[plan.interval]
        if subscription.billing_time == "anniversary":
            start, following = _anniversary_span(now, anchor, months)
        else:
            first = (now.year * 12 + now.month - 1) // months * months
            start, following = _month(first), _month(first + months)
    from_us, to_us = from_datetime(start), from_datetime(following) - 1
    if subscription.started_us is not None:
        from_us = max(from_us, subscription.started_us)
    if subscription.terminated_us is not None:
        to_us = min(to_us, subscription.terminated_us)
    return Period(from_us, to_us)


def owner_of(timestamp_us: int, subscriptions: Iterable[Subscription]) -> Subscription | None:
    """The subscription an event counts for: the newest with its external id that was running at its time."""
    running = [one for one in subscriptions if was_running(one, timestamp_us)]
    return max(running, key=lambda one: one.started_us or 0, default=None)


def was_running(subscription: Subscription, timestamp_us: int) -> bool:
    """`started_at <= timestamp <= terminated_at`, to the millisecond (facts: Events)."""
    started, terminated = subscription.started_us, subscription.terminated_us
    if started is None or subscription.status not in ("active", "terminated"):
        return False
    return started // 1000 <= timestamp_us // 1000 and (terminated is None or timestamp_us <= terminated)


def running_in(subscription: Subscription, period: Period) -> tuple[int, int]:
    """The part of a span in which `was_running` holds, both ends included; empty when it ends before it begins."""
    started, terminated = subscription.started_us, subscription.terminated_us
    if started is None or subscription.status not in ("active", "terminated"):
        return period.from_us, period.from_us - 1
    last = period.to_us if terminated is None else min(period.to_us, terminated)
    return max(period.from_us, started // 1000 * 1000), last


def is_late(subscription: Subscription, event: Event) -> bool:
    """Stored after the invoice of its time was final: never billed (fact 4)."""
    return any(
        final.from_us <= event.timestamp_us <= final.to_us and event.created_us > final.at_us
        for final in subscription.final_periods
    )


def usage_of(charge: Charge, metric: Metric, events: Iterable[Event]) -> ChargeUsage:
    """What a charge counts in events that its subscription owns, none of them late, of any metric."""
    events = list(events)
    values = _values(metric, events)
    total = _highest_total(values) if charge.pay_in_advance else sum((number for _, number in values), _ZERO)
    total = max(total, _ZERO)
    if charge.charge_model == "dynamic":
        # The price came with each event; without one it was free.
        return ChargeUsage(charge, metric, total, len(values), _sent_cents(metric, events))
    return ChargeUsage(charge, metric, total, len(values), cents(total * Decimal(charge.amount)))


def _sent_cents(metric: Metric, events: Iterable[Event]) -> int:
    counted = (event for event in events if event.code == metric.code and _value_of(event, metric) is not None)
    sent = (counted_number(event.precise_total_amount_cents) for event in counted)
    return cents(sum((number for number in sent if number is not None), _ZERO) / 100)


def net_of(metric: Metric, events: Iterable[Event]) -> tuple[Decimal, int]:
    """Sum, below zero too, and number of the events that a metric counts among those given."""
    values = _values(metric, events)
    return sum((number for _, number in values), _ZERO), len(values)


def _values(metric: Metric, events: Iterable[Event]) -> list[tuple[int, Decimal]]:
    """Order of arrival and value of each event that counts."""
    values: list[tuple[int, Decimal]] = []
    for event in events:
        number = _value_of(event, metric) if event.code == metric.code else None
        if number is not None:
            values.append((event.seq, number))
    return values


def _value_of(event: Event, metric: Metric) -> Decimal | None:
    if metric.aggregation_type == "count_agg":
        return Decimal(1)
    return counted_number(event.properties.get(metric.field_name or ""))


def _highest_total(values: list[tuple[int, Decimal]]) -> Decimal:
    """Paid in advance: each event is charged on arrival, so a correction gives nothing back (fact 5)."""
    highest = running = _ZERO
    for _, number in sorted(values):
        running += number
        highest = max(highest, running)
    return highest


def _week_start(now: datetime, anchor: datetime | None) -> datetime:
    weekday = 0 if anchor is None else anchor.weekday()
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=(day.weekday() - weekday) % 7)


def _anniversary_span(now: datetime, anchor: datetime, months: int) -> tuple[datetime, datetime]:
    elapsed = (now.year - anchor.year) * 12 + now.month - anchor.month
    index = elapsed // months
    while _month(anchor.year * 12 + anchor.month - 1 + index * months, anchor.day) > now:
        index -= 1
    first = anchor.year * 12 + anchor.month - 1 + index * months
    return _month(first, anchor.day), _month(first + months, anchor.day)


def _month(number: int, day: int = 1) -> datetime:
    """Midnight of a day of month `year * 12 + month - 1`; a day the month lacks is its last."""
    first = datetime.fromisoformat(f"{number // 12:04d}-{number % 12 + 1:02d}-01T00:00:00+00:00")
    following = (first + timedelta(days=32)).replace(day=1)
    return first.replace(day=min(day, (following - timedelta(days=1)).day))
