"""How Lago writes what it holds."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from deploy.demo.lago.billing import ChargeUsage, Period, period_at
from deploy.demo.lago.model import (
    Charge,
    Customer,
    Event,
    Invoice,
    Metric,
    Plan,
    Subscription,
    Wallet,
    WalletTransaction,
)
from deploy.demo.lago.state import LagoState
from deploy.demo.lago.values import cents, iso, iso_date, iso_millis, units

JsonObject = dict[str, Any]
BILLING_ENTITY = "simulator"


def event_created(event: Event, *, clickhouse: bool) -> JsonObject:
    """The answer to a POST: customer and subscription are looked up later, so they are null."""
    return {
        "lago_id": None if clickhouse else event.lago_id,
        "transaction_id": event.transaction_id,
        "lago_customer_id": None,
        "code": event.code,
        "timestamp": iso_millis(event.timestamp_us),
        "precise_total_amount_cents": event.precise_total_amount_cents,
        "properties": event.properties,
        "lago_subscription_id": None,
        "external_subscription_id": event.external_subscription_id,
        "created_at": iso(event.created_us),
    }


def event(state: LagoState, one: Event) -> JsonObject:
    """As it is read back. PostgreSQL has columns for subscription and customer that nobody writes any more; ClickHouse
    looks both up when it is asked.
    """
    clickhouse = state.events.kind == "clickhouse"
    owner = state.owner_of(one) if clickhouse or state.settings.shows_subscription else None
    view = event_created(one, clickhouse=False)
    if clickhouse:
        view["lago_id"] = (
            f"{state.organization_id}-{one.external_subscription_id}-{one.transaction_id}-{one.timestamp_us}"
        )
    if owner is not None:
        view["lago_subscription_id"] = owner.lago_id
        view["lago_customer_id"] = state.customers[owner.external_customer_id].lago_id
    return view


def customer(state: LagoState, one: Customer) -> JsonObject:
    del state
    return {
        "country": None,
        "timezone": None,
        "firstname": None,
        "lastname": None,
        "account_type": "customer",
        "customer_type": None,
        "net_payment_term": None,
        "metadata": [],
        "taxes": [],
        "integration_customers": [],
        "applicable_invoice_custom_sections": [],
        "finalize_zero_amount_invoice": "inherit",
        "skip_invoice_custom_sections": False,
        "billing_configuration": {"invoice_grace_period": 0, "document_locale": "en"},
        **one.details,
        "lago_id": one.lago_id,
        "sequential_id": one.sequential_id,
        "slug": f"SIM-{one.sequential_id:03d}",
        "external_id": one.external_id,
        "billing_entity_code": BILLING_ENTITY,
        "applicable_timezone": "UTC",
        "name": one.name,
        "email": one.email,
        "currency": one.currency,
        "created_at": iso(one.created_us),
        "updated_at": iso(one.updated_us),
    }


def subscription(state: LagoState, one: Subscription) -> JsonObject:
    plan = state.plans[one.plan_code]
    period = period_at(one, plan, state.now_us()) if one.status == "active" else None
    return {
        "lago_id": one.lago_id,
        "external_id": one.external_id,
        "lago_customer_id": state.customers[one.external_customer_id].lago_id,
        "external_customer_id": one.external_customer_id,
        "billing_entity_code": BILLING_ENTITY,
        "name": one.name,
        "plan_code": one.plan_code,
        "plan_amount_cents": plan.amount_cents,
        "plan_amount_currency": plan.currency,
        "status": one.status,
        "billing_time": one.billing_time,
        "subscription_at": iso(one.subscription_us),
        "started_at": _instant(one.started_us),
        "activated_at": _instant(one.started_us),
        "trial_ended_at": None,
        "ending_at": _instant(one.ending_us),
        "terminated_at": _instant(one.terminated_us),
        "canceled_at": _instant(one.canceled_us),
        "created_at": iso(one.created_us),
        "previous_plan_code": one.previous_plan_code,
        "next_plan_code": one.next_plan_code,
        "downgrade_plan_date": None if one.downgrade_us is None else iso_date(one.downgrade_us),
        "current_billing_period_started_at": None if period is None else iso(period.from_us),
        "current_billing_period_ending_at": None if period is None else iso(period.to_us),
        "on_termination_credit_note": None,
        "on_termination_invoice": "generate",
        "cancellation_reason": None,
        "consolidate_invoice": True,
    }


def usage(state: LagoState, one: Subscription, period: Period, charges: Sequence[ChargeUsage]) -> JsonObject:
    plan = state.plans[one.plan_code]
    total = sum(charge.amount_cents for charge in charges)
    return {
        "from_datetime": iso(period.from_us),
        "to_datetime": iso(period.to_us),
        "issuing_date": iso_date(period.to_us + 1),
        "lago_invoice_id": None,
        "currency": plan.currency,
        "amount_cents": total,
        "taxes_amount_cents": 0,
        "total_amount_cents": total,
        "charges_usage": [_charge_usage(charge, plan.currency) for charge in charges],
    }


def _charge_usage(one: ChargeUsage, currency: str) -> JsonObject:
    return {
        "units": units(one.units),
        "total_aggregated_units": units(one.units),
        "events_count": one.events_count,
        "amount_cents": one.amount_cents,
        "amount_currency": currency,
        "pricing_unit_details": None,
        "charge": {
            "lago_id": one.charge.lago_id,
            "charge_model": one.charge.charge_model,
            "invoice_display_name": one.charge.invoice_display_name,
        },
        "billable_metric": {
            "lago_id": one.metric.lago_id,
            "name": one.metric.name,
            "code": one.metric.code,
            "aggregation_type": one.metric.aggregation_type,
        },
        "filters": [],
        "grouped_usage": [],
    }


def metric(one: Metric) -> JsonObject:
    view: JsonObject = {
        "lago_id": one.lago_id,
        "name": one.name,
        "code": one.code,
        "description": None,
        "recurring": one.recurring,
        "rounding_function": None,
        "rounding_precision": None,
        "created_at": iso(one.created_us),
        "field_name": one.field_name,
        "aggregation_type": one.aggregation_type,
        "weighted_interval": None,
        "filters": [],
    }
    if one.expression is not None:
        view["expression"] = one.expression
    return view


def plan(state: LagoState, one: Plan) -> JsonObject:
    return {
        "lago_id": one.lago_id,
        "name": one.name,
        "invoice_display_name": one.name,
        "created_at": iso(one.created_us),
        "code": one.code,
        "interval": one.interval,
        "description": "",
        "amount_cents": one.amount_cents,
        "amount_currency": one.currency,
        "trial_period": 0.0,
        "pay_in_advance": False,
        "bill_charges_monthly": None,
        "charges": [_charge(state, charge) for charge in one.charges],
        "taxes": [],
        "usage_thresholds": [],
    }


def _charge(state: LagoState, one: Charge) -> JsonObject:
    return {
        "lago_id": one.lago_id,
        "lago_billable_metric_id": state.metrics[one.metric_code].lago_id,
        "code": one.metric_code,
        "billable_metric_code": one.metric_code,
        "invoice_display_name": one.invoice_display_name,
        "created_at": iso(one.created_us),
        "charge_model": one.charge_model,
        "pay_in_advance": one.pay_in_advance,
        "invoiceable": True,
        "regroup_paid_fees": None,
        "prorated": False,
        "min_amount_cents": 0,
        "properties": {"amount": one.amount} if one.charge_model == "standard" else {},
        "filters": [],
        "taxes": [],
        "lago_parent_id": None,
    }


def invoice(state: LagoState, one: Invoice) -> JsonObject:
    return {
        "lago_id": one.lago_id,
        "billing_entity_code": BILLING_ENTITY,
        "sequential_id": one.sequential_id,
        "number": one.number,
        "issuing_date": iso_date(one.issuing_us),
        "payment_due_date": iso_date(one.issuing_us),
        "payment_overdue": False,
        "net_payment_term": 0,
        "invoice_type": one.invoice_type,
        "status": one.status,
        "payment_status": one.payment_status,
        "currency": one.currency,
        "fees_amount_cents": one.fees_amount_cents,
        "coupons_amount_cents": 0,
        "credit_notes_amount_cents": 0,
        "sub_total_excluding_taxes_amount_cents": one.fees_amount_cents,
        "taxes_amount_cents": one.taxes_amount_cents,
        "sub_total_including_taxes_amount_cents": one.fees_amount_cents + one.taxes_amount_cents,
        "prepaid_credit_amount_cents": 0,
        "progressive_billing_credit_amount_cents": 0,
        "total_amount_cents": one.total_amount_cents,
        "total_due_amount_cents": 0 if one.payment_status == "succeeded" else one.total_amount_cents,
        "version_number": 4,
        "self_billed": False,
        "created_at": iso(one.created_us),
        "updated_at": iso(one.created_us),
        "customer": customer(state, state.customers[one.external_customer_id]),
        "metadata": [],
        "applied_taxes": [],
    }


def wallet(state: LagoState, one: Wallet) -> JsonObject:
    balance = cents(Decimal(one.credits) * Decimal(one.rate_amount))
    return {
        "lago_id": one.lago_id,
        "lago_customer_id": state.customers[one.external_customer_id].lago_id,
        "external_customer_id": one.external_customer_id,
        "billing_entity_code": BILLING_ENTITY,
        "status": one.status,
        "currency": one.currency,
        "name": one.name,
        "code": None,
        "priority": 50,
        "rate_amount": one.rate_amount,
        "credits_balance": one.credits,
        "balance_cents": balance,
        "consumed_credits": one.consumed_credits,
        "created_at": iso(one.created_us),
        "expiration_at": None,
        "last_balance_sync_at": None,
        "last_consumed_credit_at": None,
        "terminated_at": None,
        "invoice_requires_successful_payment": False,
        "recurring_transaction_rules": [],
        "ongoing_balance_cents": balance,
        "ongoing_usage_balance_cents": 0,
        "credits_ongoing_balance": one.credits,
        "credits_ongoing_usage_balance": "0.0",
    }


def wallet_transaction(one: WalletTransaction) -> JsonObject:
    return {
        "lago_id": one.lago_id,
        "lago_wallet_id": one.wallet_id,
        "lago_invoice_id": None,
        "lago_credit_note_id": None,
        "lago_voided_invoice_id": None,
        "status": one.status,
        "source": "manual",
        "transaction_status": one.transaction_status,
        "transaction_type": one.transaction_type,
        "amount": one.amount,
        "credit_amount": one.credits,
        "invoice_requires_successful_payment": False,
        "metadata": [],
        "remaining_amount_cents": None,
        "remaining_credit_amount": None,
        "priority": 50,
        "settled_at": iso(one.created_us) if one.status == "settled" else None,
        "failed_at": None,
        "created_at": iso(one.created_us),
        "name": one.name,
        "payment_method": {"payment_method_type": "manual"},
    }


def organization(state: LagoState) -> JsonObject:
    url = state.settings.webhook_url
    return {
        "lago_id": state.organization_id,
        "name": "Simulated organisation",
        "created_at": "2026-01-01T00:00:00Z",
        "webhook_url": url,
        "webhook_urls": [] if url is None else [url],
        "default_currency": "EUR",
        "document_numbering": "per_customer",
        "document_number_prefix": "SIM",
        "net_payment_term": 0,
        "timezone": "UTC",
        "email_settings": [],
        "billing_configuration": {"invoice_footer": None, "invoice_grace_period": 0, "document_locale": "en"},
        "taxes": [],
        "finalize_zero_amount_invoice": True,
        "events_store": state.events.kind,
    }


def _instant(micros: int | None) -> str | None:
    return None if micros is None else iso(micros)
