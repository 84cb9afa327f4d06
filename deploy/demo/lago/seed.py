"""An organisation's catalogue from plain data.

```json
{"customers":     [{"external_id": "cus_1", "name": "Ada", "email": null, "currency": "EUR"}],
 "metrics":       [{"code": "ev_charging_kwh", "name": "Energy", "aggregation_type": "sum_agg", "field_name": "kwh"}],
 "plans":         [{"code": "ev", "name": "EV", "interval": "monthly", "amount_cents": 0, "currency": "EUR",
                    "charges": [{"metric_code": "ev_charging_kwh", "amount": "0.35", "pay_in_advance": false}]}],
 "subscriptions": [{"external_id": "sub_1", "external_customer_id": "cus_1", "plan_code": "ev",
                    "status": "active", "started_at": "2026-01-01T00:00:00Z", "terminated_at": null}],
 "invoices":      [{"external_customer_id": "cus_1", "number": "A-1", "total_amount_cents": 1250}],
 "wallets":       [{"external_customer_id": "cus_1", "credits": "10.0"}]}
```
Instants are ISO 8601. What is left out has the default of `model.py`; a subscription without `started_at`
started at the beginning of the current month. References must be to things of the same seed.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar

import msgspec

from deploy.demo.lago.model import Charge, Customer, Invoice, Metric, Plan, Subscription, Wallet
from deploy.demo.lago.state import LagoState, Thing
from deploy.demo.lago.values import from_datetime, read_iso, to_datetime

_T = TypeVar("_T", bound=msgspec.Struct)
_INSTANTS = ("created", "updated", "started", "terminated", "canceled", "ending", "subscription", "issuing")
_SECTIONS = {"customers", "metrics", "plans", "subscriptions", "invoices", "wallets"}


class BadSeedError(ValueError):
    """A seed that names something unknown; says which and where."""


def sow(state: LagoState, seed: Mapping[str, Any]) -> None:
    """Put everything of a seed into an organisation, without webhooks.

    Raises:
        BadSeedError: an unknown section, an unknown or wrongly typed field, a reference to nothing.

    """
    unknown = set(seed) - _SECTIONS
    if unknown:
        raise BadSeedError(f"A seed has {', '.join(sorted(_SECTIONS))}; not {', '.join(sorted(unknown))}.")
    now = state.now_us()
    for number, item in enumerate(seed.get("customers", ()), start=1):
        state.save(_make(Customer, item, sequential_id=number, created_us=now, updated_us=now))
    for item in seed.get("metrics", ()):
        state.save(_make(Metric, item, created_us=now, name=item.get("code")))
    for item in seed.get("plans", ()):
        state.save(_plan(state, item, now))
    for item in seed.get("subscriptions", ()):
        state.save(_subscription(state, item, now))
    for number, item in enumerate(seed.get("invoices", ()), start=1):
        _known(state.customers, item, "external_customer_id")
        state.save(
            _make(Invoice, item, sequential_id=number, number=f"SEED-{number:03d}", created_us=now, issuing_us=now)
        )
    for item in seed.get("wallets", ()):
        _known(state.customers, item, "external_customer_id")
        state.save(_make(Wallet, item, created_us=now))


def _plan(state: LagoState, item: Mapping[str, Any], now: int) -> Plan:
    charges = [_make(Charge, charge, created_us=now) for charge in item.get("charges", ())]
    for charge in charges:
        _known(state.metrics, {"metric_code": charge.metric_code}, "metric_code")
    plan = _make(Plan, {**item, "charges": []}, created_us=now, name=item.get("code"))
    plan.charges = charges
    return plan


def _subscription(state: LagoState, item: Mapping[str, Any], now: int) -> Subscription:
    _known(state.customers, item, "external_customer_id")
    _known(state.plans, item, "plan_code")
    moment = to_datetime(now)
    month = from_datetime(moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    subscription = _make(Subscription, item, created_us=now, subscription_us=month)
    if subscription.started_us is None and subscription.status in ("active", "terminated"):
        subscription.started_us = subscription.subscription_us
    elif subscription.started_us is not None and "subscription_at" not in item:
        subscription.subscription_us = subscription.started_us
    if subscription.status == "pending" and "subscription_at" not in item:
        subscription.subscription_us = from_datetime(moment + timedelta(days=30))
    return subscription


def _make(kind: type[_T], item: Mapping[str, Any], **defaults: object) -> _T:
    """One thing; `started_at` of the seed is `started_us` of the model."""
    fields = dict(defaults)
    for name, value in item.items():
        stem = name.removesuffix("_at")
        if stem != name and stem in _INSTANTS:
            fields[f"{stem}_us"] = None if value is None else read_iso(value)
        else:
            fields[name] = value
    surplus = set(fields) - set(kind.__struct_fields__)
    if surplus:
        raise BadSeedError(f"{kind.__name__} has no {', '.join(sorted(surplus))}: {dict(item)}")
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise BadSeedError(f"{kind.__name__}: {error}: {dict(item)}") from error


def _known(things: Mapping[str, Thing], item: Mapping[str, Any], name: str) -> None:
    if item.get(name) not in things:
        raise BadSeedError(f"{name} {item.get(name)!r} is in no section of the seed.")
