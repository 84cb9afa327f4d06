"""One organisation of a simulated Lago: what it holds and what it would bill."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final, Protocol

from deploy.demo.lago import billing
from deploy.demo.lago.billing import ChargeUsage, Period
from deploy.demo.lago.events import EventStore
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
    new_id,
)
from deploy.demo.lago.settings import LagoSettings
from deploy.demo.lago.values import from_datetime

Thing = Customer | Metric | Plan | Subscription | Invoice | Wallet | WalletTransaction
Notify = Callable[[str, Thing], None]
_BEGINNING: Final = -(1 << 63)  # microseconds
_END: Final = 1 << 63  # microseconds


class Journal(Protocol):
    """Where changes are written so that they survive a restart (`persistence.py`)."""

    def save(self, thing: Thing) -> None: ...

    def save_events(self, events: Iterable[Event]) -> None: ...


class NoJournal:
    """Keeps nothing: the state ends with the process."""

    def save(self, thing: Thing) -> None:
        pass

    def save_events(self, events: Iterable[Event]) -> None:
        pass


def _nobody(webhook_type: str, thing: Thing) -> None:
    del webhook_type, thing


class LagoState:
    """Everything an organisation has. Tests may read all of it; changes go through methods and `lifecycle.py`."""

    def __init__(self, settings: LagoSettings) -> None:
        self.organization_id = new_id()
        self.settings = settings
        self.event_writes_allowed = settings.event_writes_allowed
        self.max_properties_bytes = settings.max_properties_bytes
        self.clock_offset_us = 0
        self.events = EventStore(settings.events_store)
        self.customers: dict[str, Customer] = {}
        self.metrics: dict[str, Metric] = {}
        self.plans: dict[str, Plan] = {}
        self.invoices: list[Invoice] = []
        self.wallets: dict[str, Wallet] = {}
        self.wallet_transactions: list[WalletTransaction] = []
        self.journal: Journal = NoJournal()
        self.notify: Notify = _nobody
        self.catalog_version = 0  # grows with every change that may change a bill
        self.next_due_us = 0  # nothing changes by itself before (`lifecycle.catch_up`)
        self._subscriptions: dict[str, Subscription] = {}
        self._by_external_id: dict[str, list[Subscription]] = {}
        self._by_customer: dict[str, list[Subscription]] = {}
        self._usage_cache: dict[tuple[str, Period], tuple[int, int, list[ChargeUsage]]] = {}

    def now_us(self) -> int:
        return from_datetime(self.settings.clock()) + self.clock_offset_us

    @property
    def subscriptions(self) -> list[Subscription]:
        """In order of creation; an upgraded one stands beside its successor."""
        return list(self._subscriptions.values())

    def save(self, thing: Thing) -> None:
        """Put a new or changed thing in its place, and in the journal."""
        self.place(thing)
        self.journal.save(thing)

    def place(self, thing: Thing) -> None:
        match thing:
            case Customer():
                self.customers[thing.external_id] = thing
            case Metric():
                self.metrics[thing.code] = thing
            case Plan():
                self.plans[thing.code] = thing
            case Wallet():
                self.wallets[thing.lago_id] = thing
            case WalletTransaction():
                self.wallet_transactions.append(thing)
            case Invoice():
                self.invoices.append(thing)
            case Subscription():
                self.next_due_us = 0
                if thing.lago_id not in self._subscriptions:
                    self._subscriptions[thing.lago_id] = thing
                    self._by_external_id.setdefault(thing.external_id, []).append(thing)
                    self._by_customer.setdefault(thing.external_customer_id, []).append(thing)
        self.catalog_version += 1

    def add_events(self, events: list[Event]) -> None:
        """Store events that were checked for duplicates."""
        self.events.add_all(events)
        self.journal.save_events(events)

    def subscriptions_called(self, external_id: str) -> list[Subscription]:
        """All with this external id, oldest first."""
        return self._by_external_id.get(external_id, [])

    def subscriptions_of(self, external_customer_id: str) -> list[Subscription]:
        return self._by_customer.get(external_customer_id, [])

    def find_subscription(self, external_id: str, status: str = "active") -> Subscription | None:
        """The newest with this external id and status."""
        found = [one for one in self.subscriptions_called(external_id) if one.status == status]
        return found[-1] if found else None

    def owner_of(self, event: Event) -> Subscription | None:
        """The subscription an event counts for, None when it will never be billed for want of one."""
        if event.external_subscription_id is None:
            return None
        return billing.owner_of(event.timestamp_us, self.subscriptions_called(event.external_subscription_id))

    def current_period(self, subscription: Subscription) -> Period:
        """The span current usage is about: this billing period, less what has been finalised of it."""
        period = billing.period_at(subscription, self.plans[subscription.plan_code], self.now_us())
        ends = [final.to_us + 1 for final in subscription.final_periods if final.to_us < period.to_us]
        return Period(max([period.from_us, *ends]), period.to_us)

    def usage(self, subscription: Subscription, period: Period) -> list[ChargeUsage]:
        """What each charge of the plan counts in a span, by name of its metric."""
        key = (subscription.lago_id, period)
        version = self.events.version_of(subscription.external_id)
        cached = self._usage_cache.get(key)
        if cached is not None and cached[:2] == (version, self.catalog_version):
            return cached[2]
        events = self._billable(subscription, period)
        charges = self._charges(subscription)
        carried = events
        if any(metric.recurring for _, metric in charges):
            carried = self._billable(subscription, Period(_BEGINNING, period.to_us))
        usage = [
            billing.usage_of(charge, metric, carried if metric.recurring else events) for charge, metric in charges
        ]
        self._usage_cache[key] = (version, self.catalog_version, usage)
        return usage

    def counted(self, external_subscription_id: str, metric_code: str) -> tuple[Decimal, int]:
        """Units (net, not clamped) and number of events that were or will be billed, over all time."""
        total, count = Decimal(0), 0
        for subscription in self.subscriptions_called(external_subscription_id):
            events = self._billable(subscription, Period(_BEGINNING, _END))
            if any(charge.metric_code == metric_code for charge in self.plans[subscription.plan_code].charges):
                units, number = billing.net_of(self.metrics[metric_code], events)
                total, count = total + units, count + number
        return total, count

    def counts(self, event: Event) -> bool:
        """Whether an event was or will be billed (facts 3 and 4)."""
        subscription, metric = self.owner_of(event), self.metrics.get(event.code)
        return (
            subscription is not None
            and metric is not None
            and not billing.is_late(subscription, event)
            and any(charge.metric_code == metric.code for charge in self.plans[subscription.plan_code].charges)
            and billing.net_of(metric, [event])[1] == 1
        )

    def _billable(self, subscription: Subscription, period: Period) -> list[Event]:
        """Events of a span that count for this subscription as far as time goes; codes are not looked at."""
        events = self.events.of_subscription(subscription.external_id, *billing.running_in(subscription, period))
        if len(self.subscriptions_called(subscription.external_id)) > 1:
            events = [event for event in events if self.owner_of(event) is subscription]
        if subscription.final_periods:
            events = [event for event in events if not billing.is_late(subscription, event)]
        return events

    def _charges(self, subscription: Subscription) -> list[tuple[Charge, Metric]]:
        charges = self.plans[subscription.plan_code].charges
        pairs = [(charge, self.metrics[charge.metric_code]) for charge in charges]
        return sorted(pairs, key=lambda pair: pair[1].name.lower())
