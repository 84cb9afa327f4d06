"""Linking a card: find the customer, choose the subscription, say from when, read what will change, confirm."""

from dataclasses import dataclass, field
from datetime import datetime

from services.admin_api.console import paths
from services.admin_api.console.view.cards import Card
from services.admin_api.console.view.state import Mark


@dataclass(frozen=True, slots=True)
class Customer:
    external_id: str
    name: str = ""
    email: str = ""

    @property
    def label(self) -> str:
        return self.name or self.external_id


@dataclass(frozen=True, slots=True)
class Subscription:
    external_id: str
    name: str
    plan: str
    status: Mark
    started_at: datetime | None = None
    usable: bool = True
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Preview:
    """What linking will do, as sentences. None of it has happened yet."""

    consequences: tuple[str, ...]
    undo: str
    release: str = ""
    """What ticking the box does to held sessions; empty where none waits, or nobody could count them."""


@dataclass(frozen=True, slots=True)
class LinkForm:
    """Everything typed so far; it stands in the address until the last step."""

    query: str = ""
    customer: str = ""
    subscription: str = ""
    valid_from: str = ""
    """UTC, `2026-05-01T00:00`, as the browser's date field writes it."""
    release_from: str = ""
    """The same, or empty: as `valid_from`."""

    @property
    def releases_since(self) -> str:
        return self.release_from or self.valid_from


@dataclass(frozen=True, slots=True)
class LinkPage:
    """`customers` and `subscriptions` are None when Lago did not answer; `found` false before any search."""

    card: Card
    form: LinkForm = LinkForm()
    searched: bool = False
    customers: tuple[Customer, ...] | None = ()
    chosen: Customer | None = None
    subscriptions: tuple[Subscription, ...] | None = ()
    preview: Preview | None = None
    releases: bool = False
    errors: dict[str, str] = field(default_factory=dict)
    unknown: bool = False
    """Whether the error of the form is that nobody knows whether the card is linked."""
    idempotency_key: str = ""

    @property
    def title(self) -> str:
        return "Change the link" if self.card.link else "Link this card"

    @property
    def step(self) -> int:
        """1 customer, 2 subscription and date, 3 read and confirm."""
        if self.chosen is None:
            return 1
        return 3 if self.preview else 2

    def choose(self, customer: Customer) -> str:
        return paths.address(
            paths.card_link(self.card.id_tag), {"q": self.form.query, "customer": customer.external_id}
        )

    @property
    def another_customer(self) -> str:
        return paths.address(paths.card_link(self.card.id_tag), {"q": self.form.query})

    @property
    def back_to_choice(self) -> str:
        return paths.address(
            paths.card_link(self.card.id_tag),
            {
                "q": self.form.query,
                "customer": self.form.customer,
                "subscription": self.form.subscription,
                "valid_from": self.form.valid_from,
                "release_from": self.form.release_from,
            },
        )
