"""Who plays: cards, chargers and customers, as seeds for the simulators."""

from dataclasses import dataclass
from typing import Any, Final

PRICE_PER_KWH: Final = "0.39"
# Direct-current stations: in the seconds that a person watches, a plausible session brings something to see.
POWER_W: Final = 300_000
# More than a connector delivers at that power in a day.
WH_PER_RUN: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Card:
    """A card, and the customer and subscription that pay for it (None: nobody does)."""

    id_tag: str
    holder: str
    customer: str | None = None
    subscription: str | None = None
    limit: int = 1
    parent: str | None = None


FLEET: Final = Card("META-ADA", "Ada GmbH's fleet", limit=-1)
ADA: Final = Card("04A1B2C3D4", "Ada", "cus_ada", "sub_ada_fleet", parent=FLEET.id_tag)
BEN: Final = Card("04B2C3D4E5", "Ben", "cus_ben", "sub_ben")
CLEO: Final = Card("04C3D4E5F6", "Cleo", "cus_ada", "sub_ada_fleet", parent=FLEET.id_tag)
EVE: Final = Card("04E5F6A7B8", "Eve", "cus_eve", "sub_eve", limit=0)
DAN: Final = Card("04D4E5F6A7", "Dan")
STRANGER: Final = "04FFFFFFFF"

CARDS: Final = (FLEET, ADA, BEN, CLEO, EVE, DAN)
LINKED: Final = tuple(card for card in CARDS if card.customer)
CHARGERS: Final = ("CP-1", "CP-2", "CP-3", "CP-4")
CUSTOMERS: Final = {"cus_ada": "Ada GmbH", "cus_ben": "Ben Berger", "cus_eve": "Eve Ernst"}


def steve_seed() -> dict[str, Any]:
    return {
        "tags": [
            {"id_tag": card.id_tag, "limit": card.limit, "parent_id_tag": card.parent, "note": card.holder}
            for card in CARDS
        ],
        "chargers": [{"charge_box_id": charger} for charger in CHARGERS],
    }


def lago_seed() -> dict[str, Any]:
    subscriptions = {card.subscription: card.customer for card in LINKED}
    return {
        "customers": [{"external_id": key, "name": name, "currency": "EUR"} for key, name in CUSTOMERS.items()],
        "metrics": [{"code": "ev_charging_kwh", "aggregation_type": "sum_agg", "field_name": "kwh"}],
        "plans": [
            {
                "code": "ev",
                "name": "EV charging",
                "interval": "monthly",
                "amount_cents": 0,
                "currency": "EUR",
                "charges": [{"metric_code": "ev_charging_kwh", "amount": PRICE_PER_KWH}],
            }
        ],
        "subscriptions": [
            {"external_id": key, "external_customer_id": customer, "plan_code": "ev", "status": "active"}
            for key, customer in subscriptions.items()
        ],
    }


def fleet_file(run: int) -> dict[str, Any]:
    """The chargers of the `run`-th start: a meter never goes back, and the simulated ones forget theirs."""
    start_wh = run * WH_PER_RUN
    return {
        "chargers": [{"charge_box_id": charger, "connectors": 2, "meter_start_wh": start_wh} for charger in CHARGERS]
    }
