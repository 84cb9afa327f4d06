"""What a session owes, as tables and properties."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sync.lago.rules import Subscribed
from services.sync.ledger.rules import (
    Bill,
    Chain,
    Hold,
    LatePolicy,
    Settled,
    kwh,
    settle,
    unix_seconds,
    usage_event_id,
)

NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)
ACTIVE = Subscribed(
    external_subscription_id="sub",
    active=True,
    checked_at=NOW,
    external_customer_id="cus",
    plan_code="ev",
    started_at=NOW - timedelta(days=100),
    period_from=NOW - timedelta(days=19),
    has_charge=True,
)


NOTHING_YET = Chain(0, None)


def subscribed(**changes: object) -> Subscribed:
    return replace(ACTIVE, **changes)  # type: ignore[arg-type]


def decide(
    subscription: Subscribed = ACTIVE,
    *,
    to_wh: int = 11_000,
    read_at: datetime = NOW - timedelta(hours=1),
    chain: Chain = NOTHING_YET,
    policy: LatePolicy = "hold",
    customer: str = "cus",
) -> Bill | Hold | Settled:
    return settle(
        start_wh=1_000,
        to_wh=to_wh,
        read_at=read_at,
        final=True,
        chain=chain,
        subscribed=subscription,
        customer=customer,
        now=NOW,
        late_policy=policy,
    )


@pytest.mark.parametrize(
    ("decision", "reason"),
    [
        (decide(subscribed(active=False, started_at=None)), "no_active_subscription"),
        (decide(subscribed(active=False, ended_at=NOW - timedelta(hours=2))), "after_subscription"),
        (decide(subscribed(active=False, ended_at=NOW)), "subscription_invoiced"),
        (decide(subscribed(ended_at=NOW - timedelta(hours=2))), "after_subscription"),
        # It ran when the energy was used, and would have ended by the time that this is stamped.
        (
            decide(
                subscribed(ended_at=NOW - timedelta(hours=2)),
                read_at=NOW - timedelta(days=20),
                policy="bill_in_current_period",
            ),
            "after_subscription",
        ),
        (decide(customer="other"), "other_customer"),
        (decide(read_at=NOW - timedelta(days=101)), "before_subscription"),
        (decide(read_at=NOW - timedelta(days=20)), "late"),
        (decide(read_at=NOW + timedelta(minutes=1)), "in_future"),
        (decide(subscribed(has_charge=False)), "plan_without_charge"),
        (decide(subscribed(pay_in_advance=True), to_wh=500, chain=Chain(1, 900)), "needs_credit_note"),
        (decide(subscribed(active=False), to_wh=500, chain=Chain(1, 900)), "needs_credit_note"),
        (decide(to_wh=500, chain=Chain(1, 900, ((NOW - timedelta(days=20), 800),))), "needs_credit_note"),
        # Most of it was billed in the period before: only 100 Wh can be taken back.
        (
            decide(to_wh=500, chain=Chain(2, 900, ((NOW - timedelta(days=20), 700), (NOW - timedelta(days=1), 100)))),
            "needs_credit_note",
        ),
    ],
)
def test_what_stands_against_billing_has_a_name(decision: object, reason: str) -> None:
    """A session is held for the first thing that would have Lago not count it."""
    assert isinstance(decision, Hold)
    assert decision.reason == reason


def test_the_first_entry_goes_from_the_start_and_later_ones_from_the_last() -> None:
    """A chain begins at the start's reading and goes on where it ended, also downwards."""
    first = decide()
    assert isinstance(first, Bill)
    assert (first.from_wh, first.to_wh) == (1_000, 11_000)
    less = decide(to_wh=10_500, chain=Chain(1, 11_000, ((NOW - timedelta(hours=2), 10_000),)))
    assert isinstance(less, Bill)
    assert (less.from_wh, less.to_wh) == (11_000, 10_500)
    assert isinstance(decide(chain=Chain(1, 11_000)), Settled)


def test_late_energy_is_stamped_inside_the_current_period() -> None:
    """By the other policy it is billed now, with a time that Lago counts."""
    decision = decide(read_at=NOW - timedelta(days=20), policy="bill_in_current_period")
    assert isinstance(decision, Bill)
    assert decision.timestamp == NOW


@given(st.integers(-(10**12), 10**12))
def test_kwh_are_exact_plain_decimals(wh: int) -> None:
    """Any Wh become kWh with three decimals and nothing is lost: the only form that Lago counts."""
    text = kwh(wh)
    assert Decimal(text) * 1000 == wh
    assert len(text.partition(".")[2]) == 3
    assert "e" not in text.lower()


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001 - made aware below
def test_timestamps_are_exact_to_the_millisecond(moment: datetime) -> None:
    """Unix seconds with milliseconds, as text, without a float in between."""
    aware = moment.replace(tzinfo=UTC, microsecond=moment.microsecond // 1000 * 1000)
    seconds, _, millis = unix_seconds(aware).partition(".")
    read = datetime.fromtimestamp(int(seconds), UTC) + timedelta(milliseconds=int(millis))
    assert read == aware


@given(st.lists(st.integers(1_000, 10**7), min_size=1, max_size=20))
def test_a_chain_adds_up_to_last_minus_first(readings: list[int]) -> None:
    """Whatever the readings, up or down, the entries' quantities sum to the last one less the start."""
    chain, total = Chain(0, None), 0
    for reading in readings:
        decision = decide(to_wh=reading, chain=chain)
        if isinstance(decision, Bill):
            total += decision.to_wh - decision.from_wh
            entry = (decision.timestamp, decision.to_wh - decision.from_wh)
            chain = Chain(chain.last_seq + 1, decision.to_wh, (*chain.entries, entry))
    assert total == readings[-1] - 1_000


def test_ids_are_derived_from_the_source() -> None:
    """The same entry has the same id whoever makes it, whenever."""
    assert usage_event_id("main", 42, 1) == "steve:main:42:1"
