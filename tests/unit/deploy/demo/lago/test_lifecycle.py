from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from deploy.demo.lago import LagoSettings, LagoState, lifecycle
from deploy.demo.lago.model import Event
from deploy.demo.lago.seed import BadSeedError, sow
from deploy.demo.lago.values import from_datetime, iso, read_iso

START = "2026-01-15T00:00:00Z"
SEED = {
    "customers": [{"external_id": "cus", "name": "Ada"}],
    "metrics": [{"code": "kwh", "field_name": "kwh"}],
    "plans": [
        {"code": "basic", "charges": [{"metric_code": "kwh", "amount": "0.10"}]},
        {"code": "pro", "charges": [{"metric_code": "kwh", "amount": "0.05"}]},
        {"code": "flat"},
    ],
    "subscriptions": [{"external_id": "sub", "external_customer_id": "cus", "plan_code": "basic", "started_at": START}],
}


class Organisation:
    """A state with a clock that only moves when told."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 10, 12, tzinfo=UTC)
        self.state = LagoState(LagoSettings(clock=lambda: self.now))
        self.told: list[str] = []
        self.state.notify = self._notify
        self._events = 0
        sow(self.state, SEED)
        lifecycle.catch_up(self.state)

    def _notify(self, webhook_type: str, thing: object) -> None:
        del thing
        self.told.append(webhook_type)

    def advance(self, **span: int) -> None:
        self.now += timedelta(**span)
        lifecycle.catch_up(self.state)

    def use(self, kwh: str, at: str | None = None) -> None:
        self._events += 1
        now = from_datetime(self.now)
        self.state.add_events(
            [
                Event(
                    transaction_id=f"t{self._events}",
                    external_subscription_id="sub",
                    code="kwh",
                    timestamp_us=now if at is None else read_iso(at),
                    properties={"kwh": kwh},
                    created_us=now,
                )
            ]
        )

    def current(self) -> Decimal:
        one = self.state.find_subscription("sub")
        assert one is not None
        return self.state.usage(one, self.state.current_period(one))[0].units


@pytest.fixture
def organisation() -> Organisation:
    return Organisation()


def test_events_of_periods_that_were_over_before_are_never_billed(organisation: Organisation) -> None:
    """A subscription made with a start in the past bills its current period, nothing before."""
    organisation.use("5", at="2026-02-20T00:00:00Z")
    organisation.use("7", at="2026-03-05T00:00:00Z")
    assert organisation.state.counted("sub", "kwh") == (Decimal(7), 1)
    assert organisation.state.invoices == []


def test_a_period_becomes_final_when_it_is_over(organisation: Organisation) -> None:
    """Its invoice has what had arrived; what comes later is stored and never billed."""
    organisation.use("10")
    organisation.advance(days=30)
    organisation.use("3", at="2026-03-31T23:59:59Z")
    organisation.use("2")
    assert [invoice.fees_amount_cents for invoice in organisation.state.invoices] == [100]
    assert organisation.told == ["invoice.created"]
    assert organisation.current() == Decimal(2)
    assert organisation.state.counted("sub", "kwh") == (Decimal(12), 2)


def test_a_period_can_be_made_final_early(organisation: Organisation) -> None:
    """What is inside and late does not count, the rest of the period goes on."""
    organisation.use("1", at="2026-03-09T00:00:00Z")
    final = lifecycle.finalize_period(organisation.state, "sub")
    assert iso(final.from_us) == "2026-03-01T00:00:00Z"
    organisation.advance(hours=1)
    organisation.use("2", at="2026-03-09T00:00:00Z")
    organisation.use("4")
    assert organisation.current() == Decimal(4)
    assert organisation.state.counted("sub", "kwh") == (Decimal(5), 2)


@pytest.mark.parametrize(("finalize", "counted"), [(True, Decimal(1)), (False, Decimal(3))])
def test_a_terminated_subscription_bills_what_arrived_before_its_last_invoice(
    organisation: Organisation, *, finalize: bool, counted: Decimal
) -> None:
    """The last invoice is final at once; without it a late event still counts. After the end nothing does."""
    organisation.use("1")
    organisation.advance(hours=2)
    one = lifecycle.terminate(organisation.state, "sub", finalize=finalize)
    assert one.status == "terminated"
    organisation.advance(hours=1)
    organisation.use("2", at="2026-03-10T13:00:00Z")
    organisation.use("8")
    assert organisation.state.counted("sub", "kwh")[0] == counted
    assert organisation.state.find_subscription("sub") is None


def test_an_upgrade_keeps_the_external_id(organisation: Organisation) -> None:
    """The old one ends, its successor starts; each counts its own time."""
    organisation.use("1")
    organisation.advance(hours=1)
    new = lifecycle.upgrade(organisation.state, "sub", "pro")
    organisation.advance(hours=1)
    organisation.use("2")
    assert (new.external_id, new.previous_plan_code, new.status) == ("sub", "basic", "active")
    assert [one.status for one in organisation.state.subscriptions_called("sub")] == ["terminated", "active"]
    assert organisation.current() == Decimal(2)
    assert organisation.state.counted("sub", "kwh") == (Decimal(3), 2)
    assert organisation.told == ["invoice.created", "subscription.terminated", "subscription.started"]


def test_a_downgrade_waits_for_the_next_period(organisation: Organisation) -> None:
    """Until then a pending successor stands beside the active subscription."""
    lifecycle.downgrade(organisation.state, "sub", "flat")
    assert [one.status for one in organisation.state.subscriptions_called("sub")] == ["active", "pending"]
    organisation.advance(days=30)
    active = organisation.state.find_subscription("sub")
    assert active is not None
    assert active.plan_code == "flat"


def test_usage_without_a_charge_on_the_metric_is_free(organisation: Organisation) -> None:
    """A plan that has no charge on the metric counts nothing."""
    lifecycle.upgrade(organisation.state, "sub", "flat")
    organisation.advance(hours=1)
    organisation.use("5")
    assert organisation.state.counted("sub", "kwh") == (Decimal(0), 0)


def test_a_subscription_in_the_future_starts_by_itself(organisation: Organisation) -> None:
    """Pending until its day, then active, with a webhook."""
    starts = from_datetime(organisation.now + timedelta(days=2))
    lifecycle.create_subscription(
        organisation.state, external_id="next", external_customer_id="cus", plan_code="pro", subscription_us=starts
    )
    assert organisation.state.find_subscription("next") is None
    organisation.advance(days=3)
    assert organisation.state.find_subscription("next") is not None
    assert organisation.told == ["subscription.started"]


def test_a_subscription_with_an_end_ends_by_itself(organisation: Organisation) -> None:
    """On its day it is terminated, at the instant it named."""
    ends = from_datetime(organisation.now + timedelta(days=1))
    one = lifecycle.create_subscription(
        organisation.state, external_id="short", external_customer_id="cus", plan_code="pro", ending_us=ends
    )
    organisation.advance(days=2)
    assert (one.status, one.terminated_us) == ("terminated", ends)


@pytest.mark.parametrize(
    "seed",
    [
        {"customer": []},
        {"customers": [{"external_id": "c", "colour": "red"}]},
        {"customers": [{"external_id": 7}]},
        {"subscriptions": [{"external_id": "s", "external_customer_id": "nobody", "plan_code": "p"}]},
        {"plans": [{"code": "p", "charges": [{"metric_code": "unknown"}]}]},
        {"metrics": [{"code": "m", "aggregation_type": "max_agg"}]},
    ],
)
def test_a_seed_that_makes_no_sense_is_refused(seed: dict[str, object]) -> None:
    """Unknown sections, fields, types and references are errors, not silence."""
    with pytest.raises(BadSeedError):
        sow(LagoState(LagoSettings()), seed)
