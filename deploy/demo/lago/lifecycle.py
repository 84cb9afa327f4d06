"""What happens to subscriptions: they start, change plan, end, and their periods become final."""

from decimal import Decimal
from typing import Final, Literal

from deploy.demo.lago.billing import ChargeUsage, Period, period_at
from deploy.demo.lago.model import FinalPeriod, Invoice, Subscription
from deploy.demo.lago.state import LagoState
from deploy.demo.lago.values import units

_NEVER: Final = 1 << 63  # microseconds


class NoSuchSubscriptionError(LookupError):
    def __init__(self, external_id: str, status: str) -> None:
        super().__init__(f"There is no {status} subscription {external_id!r}.")


def create_subscription(
    state: LagoState,
    *,
    external_id: str,
    external_customer_id: str,
    plan_code: str,
    name: str | None = None,
    billing_time: Literal["calendar", "anniversary"] = "calendar",
    subscription_us: int | None = None,
    ending_us: int | None = None,
) -> Subscription:
    """A new subscription: active, or pending when it starts later than now."""
    now = state.now_us()
    starts = now // 1000 * 1000 if subscription_us is None else subscription_us
    subscription = Subscription(
        external_id=external_id,
        external_customer_id=external_customer_id,
        plan_code=plan_code,
        name=name,
        billing_time=billing_time,
        created_us=now,
        subscription_us=starts,
        ending_us=ending_us,
        status="active" if starts <= now else "pending",
        started_us=starts if starts <= now else None,
    )
    state.save(subscription)
    if subscription.status == "active":
        state.notify("subscription.started", subscription)
    return subscription


def terminate(state: LagoState, external_id: str, *, at_us: int | None = None, finalize: bool = True) -> Subscription:
    """End the active subscription. Its last invoice is final at once, unless `finalize` is switched off."""
    subscription = _active(state, external_id)
    now = state.now_us()
    end = now if at_us is None else at_us
    period = period_at(subscription, state.plans[subscription.plan_code], end)
    subscription.status, subscription.terminated_us = "terminated", end
    if finalize:
        _finalize(state, subscription, Period(_open_from(subscription, period), end), now)
    state.save(subscription)
    state.notify("subscription.terminated", subscription)
    return subscription


def cancel_pending(state: LagoState, external_id: str) -> Subscription:
    """A pending subscription that never starts."""
    subscription = state.find_subscription(external_id, "pending")
    if subscription is None:
        raise NoSuchSubscriptionError(external_id, "pending")
    subscription.status, subscription.canceled_us = "canceled", state.now_us()
    state.save(subscription)
    state.notify("subscription.canceled", subscription)
    return subscription


def upgrade(state: LagoState, external_id: str, plan_code: str) -> Subscription:
    """Another plan at once: the old subscription ends now, its successor keeps the external id."""
    old = _active(state, external_id)
    now = state.now_us() // 1000 * 1000
    terminate(state, external_id, at_us=now)
    return _succeed(state, old, plan_code, now)


def downgrade(state: LagoState, external_id: str, plan_code: str) -> Subscription:
    """Another plan from the next period on: until then a pending successor stands beside the old one."""
    old = _active(state, external_id)
    period = period_at(old, state.plans[old.plan_code], state.now_us())
    old.next_plan_code, old.downgrade_us = plan_code, period.to_us + 1
    successor = Subscription(
        external_id=external_id,
        external_customer_id=old.external_customer_id,
        plan_code=plan_code,
        created_us=state.now_us(),
        subscription_us=old.subscription_us,
        billing_time=old.billing_time,
        status="pending",
        previous_plan_code=old.plan_code,
    )
    state.save(successor)
    state.save(old)
    state.notify("subscription.updated", old)
    return successor


def apply_downgrade(state: LagoState, external_id: str) -> Subscription:
    """The period is over (or is made to be): the old subscription ends, its pending successor starts."""
    old = _active(state, external_id)
    successor = state.find_subscription(external_id, "pending")
    if successor is None:
        raise NoSuchSubscriptionError(external_id, "pending")
    now = state.now_us() // 1000 * 1000
    terminate(state, external_id, at_us=now)
    successor.status, successor.started_us = "active", now
    successor.previous_plan_code = old.plan_code
    state.save(successor)
    state.notify("subscription.started", successor)
    return successor


def finalize_period(
    state: LagoState, external_id: str, *, from_us: int | None = None, to_us: int | None = None
) -> FinalPeriod:
    """Make the invoice of a span final: by default from the start of the current period until now.

    Events inside it that arrive from now on are stored and never billed (fact 4).
    """
    subscription = _active(state, external_id)
    period = period_at(subscription, state.plans[subscription.plan_code], state.now_us())
    span = Period(
        _open_from(subscription, period) if from_us is None else from_us, state.now_us() if to_us is None else to_us
    )
    final = _finalize(state, subscription, span, state.now_us())
    state.save(subscription)
    return final


def catch_up(state: LagoState) -> None:
    """Do what the clock has made due: start pending subscriptions, close periods, end what has an end."""
    now = state.now_us()
    if now < state.next_due_us:
        return
    for subscription in state.subscriptions:
        if subscription.status == "pending" and subscription.previous_plan_code is None:
            _start_if_due(state, subscription, now)
        if subscription.status == "active":
            _close_periods(state, subscription, now)
            if subscription.downgrade_us is not None and subscription.downgrade_us <= now:
                subscription.downgrade_us = None
                apply_downgrade(state, subscription.external_id)
            elif subscription.ending_us is not None and subscription.ending_us <= now:
                terminate(state, subscription.external_id, at_us=subscription.ending_us)
    state.next_due_us = min((_due(state, one, now) for one in state.subscriptions), default=_NEVER)


def _due(state: LagoState, subscription: Subscription, now: int) -> int:
    """When the clock next changes a subscription."""
    if subscription.status == "pending" and subscription.previous_plan_code is None:
        return subscription.subscription_us
    if subscription.status != "active":
        return _NEVER
    end = period_at(subscription, state.plans[subscription.plan_code], now).to_us + 1
    return end if subscription.ending_us is None else min(end, subscription.ending_us)


def _start_if_due(state: LagoState, subscription: Subscription, now: int) -> None:
    if subscription.subscription_us <= now:
        subscription.status, subscription.started_us = "active", subscription.subscription_us
        state.save(subscription)
        state.notify("subscription.started", subscription)


def _close_periods(state: LagoState, subscription: Subscription, now: int) -> None:
    plan = state.plans[subscription.plan_code]
    current = period_at(subscription, plan, now)
    started = subscription.started_us or now
    reached = max([started, *(final.to_us + 1 for final in subscription.final_periods)])
    if reached >= current.from_us:
        return
    while reached < current.from_us:
        period = period_at(subscription, plan, reached)
        span = Period(reached, period.to_us)
        # A period that was over when the subscription was made is never invoiced, so nothing in it is billed.
        _finalize(state, subscription, span, period.to_us, invoiced=period.to_us >= subscription.created_us)
        reached = period.to_us + 1
    state.save(subscription)


def _finalize(
    state: LagoState, subscription: Subscription, span: Period, at_us: int, *, invoiced: bool = True
) -> FinalPeriod:
    usage = state.usage(subscription, span)
    final = FinalPeriod(from_us=span.from_us, to_us=span.to_us, at_us=at_us)
    if invoiced:
        invoice = _invoice(state, subscription, usage, at_us)
        final.invoice_id = invoice.lago_id
    # A new list: decoded subscriptions must not share one.
    subscription.final_periods = [*subscription.final_periods, final]
    state.catalog_version += 1
    return final


def _invoice(state: LagoState, subscription: Subscription, usage: list[ChargeUsage], at_us: int) -> Invoice:
    plan = state.plans[subscription.plan_code]
    total = plan.amount_cents + sum(one.amount_cents for one in usage)
    number = 1 + sum(one.external_customer_id == subscription.external_customer_id for one in state.invoices)
    customer = state.customers[subscription.external_customer_id]
    invoice = Invoice(
        external_customer_id=subscription.external_customer_id,
        external_subscription_id=subscription.external_id,
        sequential_id=number,
        number=f"SIM-{customer.sequential_id:03d}-{number:03d}",
        created_us=at_us,
        issuing_us=at_us,
        currency=plan.currency,
        fees_amount_cents=total,
        total_amount_cents=total,
        lines=[
            {
                "billable_metric_code": one.metric.code,
                "units": units(max(one.units, Decimal(0))),
                "events_count": one.events_count,
                "amount_cents": one.amount_cents,
            }
            for one in usage
        ],
    )
    state.save(invoice)
    state.notify("invoice.created", invoice)
    return invoice


def _open_from(subscription: Subscription, period: Period) -> int:
    """Where the part of a period begins that is not final yet."""
    ends = [final.to_us + 1 for final in subscription.final_periods if final.to_us < period.to_us]
    return max([period.from_us, *ends])


def _succeed(state: LagoState, old: Subscription, plan_code: str, now: int) -> Subscription:
    successor = Subscription(
        external_id=old.external_id,
        external_customer_id=old.external_customer_id,
        plan_code=plan_code,
        created_us=now,
        subscription_us=old.subscription_us,
        billing_time=old.billing_time,
        started_us=now,
        previous_plan_code=old.plan_code,
    )
    old.next_plan_code = plan_code
    state.save(old)
    state.save(successor)
    state.notify("subscription.started", successor)
    return successor


def _active(state: LagoState, external_id: str) -> Subscription:
    subscription = state.find_subscription(external_id)
    if subscription is None:
        raise NoSuchSubscriptionError(external_id, "active")
    return subscription
