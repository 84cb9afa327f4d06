"""A SteVe and a Lago for sync, simulated in the tests' own process: they outlive every fault that is made."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from deploy.demo.lago import LagoSettings, SimulatedLago, lifecycle, run_lago
from deploy.demo.lago.model import Charge, Customer, Plan
from deploy.demo.steve.model import MeterValue, Stop, StopActor
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.simulator import SteveSimulator, run_steve

STEVE_ID = "main"
CARD, CHARGER = "BILLED-1", "CP-BILLED-1"
CUSTOMER, SUBSCRIPTION = "cus_ada", "sub_ada"
METRIC = "ev_charging_kwh"
START_WH = 1_000
# Links are valid, and the subscription runs, from before the sessions start.
SUBSCRIBED_FOR, CHARGED_AGO, CHARGED_FOR = timedelta(days=100), timedelta(days=5), timedelta(minutes=30)
# What charges now began before its readings and its stop, all of which are past.
CHARGING_FOR = timedelta(hours=1)


@dataclass(frozen=True)
class Billing:
    """A card at a charger, and a subscription that its sessions are for once it is linked."""

    steve: SteveSimulator
    lago: SimulatedLago
    subscribed_at: datetime

    @property
    def settings(self) -> dict[str, str]:
        """Sync's settings to find them, and to look often enough for a test."""
        return {
            "EXPRESSYNC_SYNC_STEVE_ID": STEVE_ID,
            "EXPRESSYNC_SYNC_STEVE_URL": self.steve.rest_url,
            "EXPRESSYNC_SYNC_STEVE_USER": self.steve.settings.user,
            "EXPRESSYNC_SYNC_STEVE_PASSWORD": self.steve.settings.password,
            "EXPRESSYNC_SYNC_STEVE_VERSION": "3.15",
            "EXPRESSYNC_SYNC_LAGO_URL": self.lago.url,
            "EXPRESSYNC_SYNC_LAGO_API_KEY": self.lago.api_key,
            "EXPRESSYNC_SYNC_LAGO_WEBHOOK_KEY": self.lago.settings.webhook_hmac_key,
            "EXPRESSYNC_SYNC_COUNT_AFTER_S": "0",
            # Only where a test has a running session with meter values.
            "EXPRESSYNC_SYNC_INCREMENTAL_KWH": "1",
            "EXPRESSYNC_SYNC_POLL_S": "0.5",
            "EXPRESSYNC_SYNC_IDLE_POLL_S": "0.5",
            "EXPRESSYNC_SYNC_DORMANT_POLL_S": "0.5",
            "EXPRESSYNC_SYNC_CARDS_EVERY_S": "1",
        }

    def charge(
        self,
        energy_wh: int | None,
        charger: str = CHARGER,
        *,
        card: str = CARD,
        stopped_by: StopActor = StopActor.STATION,
    ) -> str:
        """A transaction in SteVe's history, the only one of its charger; its session's name. None: it goes on still."""
        state = self.steve.state
        if state.tag(card) is None:
            state.add_tag(card)
        start_at = datetime.now(UTC).replace(microsecond=0) - (CHARGED_AGO if energy_wh is not None else CHARGING_FOR)
        transaction = state.add_transaction(charge_box_id=charger, id_tag=card, start_at=start_at, start_wh=START_WH)
        session = f"{STEVE_ID}:{transaction.pk}"
        if energy_wh is not None:
            self.stop(session, energy_wh, by=stopped_by)
        return session

    def stop(self, session: str, energy_wh: int, *, by: StopActor = StopActor.STATION) -> None:
        """SteVe has a stop of it, which is the one that counts from now on."""
        transaction = self.steve.state.transactions[pk_of(session)]
        stop_at = transaction.start_at + CHARGED_FOR
        self.steve.state.add_stop(
            transaction.pk, Stop(at=stop_at, value=str(START_WH + energy_wh), reason=None, actor=by)
        )

    def read(self, session: str, energy_wh: int) -> None:
        """Its meter says that it has come so far, a while before it stops."""
        transaction = self.steve.state.transactions[pk_of(session)]
        reading = MeterValue(
            at=transaction.start_at + CHARGED_FOR / 2,
            value=str(START_WH + energy_wh),
            measurand="Energy.Active.Import.Register",
            unit="Wh",
        )
        self.steve.state.add_meter_values(transaction.pk, [reading])

    def subscribe(self, name: str) -> None:
        """A customer, and a subscription of the same name, whose plan has no charge on the metric."""
        state, now = self.lago.state, self.lago.state.now_us()
        state.save(Customer(external_id=name, sequential_id=len(state.customers) + 1, created_us=now, updated_us=now))
        state.save(Plan(code=name, name=name, created_us=now, interval="yearly"))
        since = now - int(SUBSCRIBED_FOR / timedelta(microseconds=1))
        lifecycle.create_subscription(
            state,
            external_id=name,
            external_customer_id=name,
            plan_code=name,
            billing_time="anniversary",
            subscription_us=since,
        )

    def price(self, name: str) -> None:
        """The plan of that name gets its charge, and Lago tells that the subscription has changed."""
        state = self.lago.state
        plan = state.plans[name]
        plan.charges = [Charge(metric_code=METRIC, created_us=state.now_us(), amount="0.40")]
        state.save(plan)
        (subscription,) = state.subscriptions_called(name)
        state.notify("subscription.updated", subscription)

    def counted_of(self, subscription: str) -> tuple[int, int]:
        """What Lago counts for a subscription, from its own stored events: Wh, and how many events."""
        units, events = self.lago.state.counted(subscription, METRIC)
        return int(units * 1000), events

    @property
    def counted(self) -> tuple[int, int]:
        """The same for the card's subscription."""
        return self.counted_of(SUBSCRIPTION)


def pk_of(session: str) -> int:
    return int(session.rpartition(":")[2])


@contextlib.asynccontextmanager
async def simulated() -> AsyncIterator[Billing]:
    subscribed_at = datetime.now(UTC).replace(microsecond=0) - SUBSCRIBED_FOR
    seed = {
        "customers": [{"external_id": CUSTOMER, "name": "Ada"}],
        "metrics": [{"code": METRIC, "aggregation_type": "sum_agg", "field_name": "kwh"}],
        "plans": [{"code": "ev", "interval": "yearly", "charges": [{"metric_code": METRIC, "amount": "0.40"}]}],
        "subscriptions": [
            {
                "external_id": SUBSCRIPTION,
                "external_customer_id": CUSTOMER,
                "plan_code": "ev",
                "started_at": subscribed_at.isoformat(),
                "billing_time": "anniversary",
            }
        ],
    }
    async with run_steve(SteveSettings(auth_delay_ms=0)) as steve, run_lago(LagoSettings(seed=seed)) as lago:
        steve.state.add_charger(CHARGER)
        steve.state.add_tag(CARD)
        yield Billing(steve, lago, subscribed_at)
