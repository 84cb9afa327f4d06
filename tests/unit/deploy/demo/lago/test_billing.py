from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.demo.lago.billing import Period, is_late, net_of, owner_of, period_at, running_in, usage_of, was_running
from deploy.demo.lago.model import Charge, Event, FinalPeriod, Interval, Metric, Plan, Subscription
from deploy.demo.lago.values import iso, read_iso

METRIC = Metric(code="kwh", name="Energy", created_us=0, field_name="kwh")


def subscription(**fields: object) -> Subscription:
    start = read_iso(str(fields.pop("start", "2026-01-15T10:00:00Z")))
    given_fields: dict[str, Any] = {"subscription_us": start, "started_us": start, **fields}
    return Subscription(external_id="s", external_customer_id="c", plan_code="p", created_us=start, **given_fields)


def event(value: object, seq: int = 1, timestamp_us: int = 0, created_us: int = 0, code: str = "kwh") -> Event:
    return Event(
        transaction_id=str(seq),
        external_subscription_id="s",
        code=code,
        timestamp_us=timestamp_us,
        properties={"kwh": value},
        created_us=created_us,
        seq=seq,
    )


@pytest.mark.parametrize(
    ("interval", "billing_time", "now", "first", "last"),
    [
        ("monthly", "calendar", "2026-03-10T00:00:00Z", "2026-03-01T00:00:00Z", "2026-03-31T23:59:59Z"),
        ("monthly", "calendar", "2026-01-20T00:00:00Z", "2026-01-15T10:00:00Z", "2026-01-31T23:59:59Z"),
        ("monthly", "anniversary", "2026-03-10T00:00:00Z", "2026-02-15T00:00:00Z", "2026-03-14T23:59:59Z"),
        ("weekly", "calendar", "2026-03-11T00:00:00Z", "2026-03-09T00:00:00Z", "2026-03-15T23:59:59Z"),
        ("weekly", "anniversary", "2026-03-11T00:00:00Z", "2026-03-05T00:00:00Z", "2026-03-11T23:59:59Z"),
        ("quarterly", "calendar", "2026-05-11T00:00:00Z", "2026-04-01T00:00:00Z", "2026-06-30T23:59:59Z"),
        ("quarterly", "anniversary", "2026-05-11T00:00:00Z", "2026-04-15T00:00:00Z", "2026-07-14T23:59:59Z"),
        ("yearly", "calendar", "2027-12-31T23:59:59Z", "2027-01-01T00:00:00Z", "2027-12-31T23:59:59Z"),
    ],
)
def test_billing_periods(interval: Interval, billing_time: str, now: str, first: str, last: str) -> None:
    """A period follows the calendar or the day of the start, and begins no earlier than the subscription."""
    time: Literal["calendar", "anniversary"] = "anniversary" if billing_time == "anniversary" else "calendar"
    plan = Plan(code="p", name="p", created_us=0, interval=interval)
    period = period_at(subscription(billing_time=time), plan, read_iso(now))
    assert (iso(period.from_us), iso(period.to_us)) == (first, last)


def test_an_anniversary_on_the_31st_falls_on_the_last_day_of_a_short_month() -> None:
    """February has no 31st: the period begins on the 28th."""
    plan = Plan(code="p", name="p", created_us=0)
    period = period_at(
        subscription(start="2026-01-31T00:00:00Z", billing_time="anniversary"), plan, read_iso("2026-03-01T00:00:00Z")
    )
    assert (iso(period.from_us), iso(period.to_us)) == ("2026-02-28T00:00:00Z", "2026-03-30T23:59:59Z")


@pytest.mark.parametrize(
    ("timestamp", "status", "counts"),
    [
        ("2026-01-15T09:59:59.999Z", "terminated", False),
        ("2026-01-15T10:00:00Z", "terminated", True),
        ("2026-02-01T00:00:00Z", "terminated", True),
        ("2026-02-01T00:00:00.001Z", "terminated", False),
        ("2026-01-20T00:00:00Z", "canceled", False),
        ("2026-01-20T00:00:00Z", "pending", False),
        ("2026-01-20T00:00:00Z", "incomplete", False),
    ],
)
def test_an_event_counts_between_start_and_end(
    timestamp: str,
    status: Literal["terminated", "canceled", "pending", "incomplete"],
    counts: bool,  # noqa: FBT001
) -> None:
    """Both ends belong to the subscription; one that never ran counts nothing."""
    one = subscription(status=status, terminated_us=read_iso("2026-02-01T00:00:00Z"))
    moment = read_iso(timestamp)
    assert was_running(one, moment) is counts
    first, last = running_in(one, Period(0, 1 << 62))
    assert (first <= moment <= last) is counts


def test_after_an_upgrade_the_instant_of_the_change_belongs_to_the_successor() -> None:
    """Old and new keep the external id; an event is counted by one of them only."""
    change = read_iso("2026-02-01T00:00:00Z")
    old = subscription(status="terminated", terminated_us=change)
    new = subscription(start="2026-02-01T00:00:00Z")
    assert owner_of(change, [old, new]) is new
    assert owner_of(change - 1000, [old, new]) is old
    assert owner_of(read_iso("2025-01-01T00:00:00Z"), [old, new]) is None


def test_an_event_that_came_after_the_invoice_is_late() -> None:
    """Final is what lies in the span, and only for what arrives after the invoice."""
    one = subscription(final_periods=[FinalPeriod(from_us=10, to_us=20, at_us=25)])
    assert is_late(one, event("1", timestamp_us=20, created_us=26))
    assert not is_late(one, event("1", timestamp_us=20, created_us=25))
    assert not is_late(one, event("1", timestamp_us=21, created_us=26))


@pytest.mark.parametrize(
    ("values", "units", "in_advance"),
    [
        (["10", "5.5"], "15.5", "15.5"),
        (["10", "-4"], "6", "10"),
        (["10", "-4", "3"], "9", "10"),
        (["10", "-4", "6"], "12", "12"),
        (["-4"], "0", "0"),
        (["3", "-10"], "0", "3"),
        ([], "0", "0"),
    ],
)
def test_corrections_lower_arrears_and_refund_nothing_paid_in_advance(
    values: list[str], units: str, in_advance: str
) -> None:
    """A net total below zero is zero; what was charged on arrival stays charged."""
    events = [event(value, seq) for seq, value in enumerate(values, start=1)]
    arrears = usage_of(Charge(metric_code="kwh", created_us=0), METRIC, events)
    advance = usage_of(Charge(metric_code="kwh", created_us=0, pay_in_advance=True), METRIC, events)
    assert (arrears.units, advance.units) == (Decimal(units), Decimal(in_advance))
    assert arrears.events_count == advance.events_count == len(values)


def test_only_counted_events_are_counted() -> None:
    """Other codes and unusable properties add neither units nor to the number of events."""
    events = [event("1.5"), event("1e3", 2), event(None, 3), event("7", 4, code="other")]
    usage = usage_of(Charge(metric_code="kwh", created_us=0, amount="0.35"), METRIC, events)
    assert (usage.units, usage.events_count, usage.amount_cents) == (Decimal("1.5"), 1, 53)


def test_a_dynamic_charge_bills_what_the_events_say() -> None:
    """The price comes with each event; one without is counted, and free."""
    priced, free = event("1.5"), event("2", 2)
    priced.precise_total_amount_cents = "1234.56"
    usage = usage_of(Charge(metric_code="kwh", created_us=0, charge_model="dynamic"), METRIC, [priced, free])
    assert (usage.units, usage.amount_cents) == (Decimal("3.5"), 1235)


@given(st.lists(st.decimals(min_value=-1000, max_value=1000, places=3)))
def test_net_is_the_exact_sum(values: list[Decimal]) -> None:
    """Thousandths add up without a rounding error, in any order."""
    events = [event(format(value, "f"), seq) for seq, value in enumerate(values, start=1)]
    assert net_of(METRIC, events) == (sum(values, Decimal(0)), len(values))
    assert net_of(METRIC, reversed(events)) == (sum(values, Decimal(0)), len(values))


def test_counting_needs_no_property_where_the_metric_counts_events() -> None:
    """`count_agg` counts each event once."""
    metric = Metric(code="kwh", name="n", created_us=0, aggregation_type="count_agg")
    assert net_of(metric, [event(None), event("x", 2)]) == (Decimal(2), 2)
