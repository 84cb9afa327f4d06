"""A SteVe and a Lago for sync, simulated in the tests' own process: they outlive every fault that is made."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from deploy.demo.lago import LagoSettings, SimulatedLago, run_lago
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.simulator import SteveSimulator, run_steve

STEVE_ID = "main"
CARD, CHARGER = "BILLED-1", "CP-BILLED-1"
CUSTOMER, SUBSCRIPTION = "cus_ada", "sub_ada"
METRIC = "ev_charging_kwh"
START_WH = 1_000
# Links are valid, and the subscription runs, from before the sessions start.
SUBSCRIBED_FOR, CHARGED_AGO, CHARGED_FOR = timedelta(days=100), timedelta(days=5), timedelta(minutes=30)


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
            "EXPRESSYNC_SYNC_POLL_S": "0.5",
            "EXPRESSYNC_SYNC_IDLE_POLL_S": "0.5",
            "EXPRESSYNC_SYNC_DORMANT_POLL_S": "0.5",
            "EXPRESSYNC_SYNC_CARDS_EVERY_S": "1",
        }

    def charge(self, energy_wh: int, charger: str = CHARGER) -> str:
        """A finished transaction in SteVe's history, the only one of its charger; its session's name."""
        start_at = datetime.now(UTC).replace(microsecond=0) - CHARGED_AGO
        transaction = self.steve.state.add_transaction(
            charge_box_id=charger,
            id_tag=CARD,
            start_at=start_at,
            start_wh=START_WH,
            stop_at=start_at + CHARGED_FOR,
            stop_wh=START_WH + energy_wh,
        )
        return f"{STEVE_ID}:{transaction.pk}"

    @property
    def counted(self) -> tuple[int, int]:
        """What Lago counts for the subscription, from its own stored events: Wh, and how many events."""
        units, events = self.lago.state.counted(SUBSCRIPTION, METRIC)
        return int(units * 1000), events


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
