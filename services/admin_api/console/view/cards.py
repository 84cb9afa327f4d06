"""A card as the operator sees it: what is known here, what SteVe says, what it is linked to."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.admin_api.console import format as fmt
from services.admin_api.console import paths
from services.admin_api.console.view.diagnosis import Diagnosis
from services.admin_api.console.view.sessions import Sessions
from services.admin_api.console.view.state import Action, Chip, Mark, Pager, State
from services.admin_api.console.view.timeline import Timeline

_TYPES = {"ev_card": "EV card", "keytag": "Keytag", "app": "App", "meta": "Meta-card"}
_SUBSCRIPTION = {
    "active": Mark(State.OK, "active"),
    "pending": Mark(State.ATTENTION, "not started yet"),
    "terminated": Mark(State.WRONG, "ended"),
    "canceled": Mark(State.WRONG, "cancelled"),
    "missing": Mark(State.WRONG, "not in Lago"),
}


@dataclass(frozen=True, slots=True)
class Link:
    """To whom the card's sessions are billed.

    `subscription_status` None: Lago did not answer, or (`asked` false) was not asked, as in a list.
    """

    external_customer_id: str
    external_subscription_id: str
    valid_from: datetime
    customer_name: str = ""
    subscription_status: str | None = None
    inherited_from: str = ""
    customer_href: str = ""
    asked: bool = True

    @property
    def customer(self) -> str:
        return self.customer_name or self.external_customer_id

    @property
    def subscription(self) -> Mark:
        if not self.asked:
            return Mark(State.NEUTRAL, "not asked")
        if self.subscription_status is None:
            return Mark(State.UNKNOWN, "Lago did not answer")
        known = _SUBSCRIPTION.get(self.subscription_status)
        return known or Mark(State.ATTENTION, fmt.words(self.subscription_status))

    @property
    def subscription_words(self) -> str:
        if not self.asked:
            return "open the card to see whether the subscription is active"
        if self.subscription_status is None:
            return "Lago did not say whether the subscription is active"
        return f"subscription {self.subscription.word}"

    @property
    def mark(self) -> Mark:
        """How the link stands as a whole: linked is fine only while the subscription is."""
        state = self.subscription.state
        return Mark(state if state is not State.WRONG else State.ATTENTION, "Linked")


@dataclass(frozen=True, slots=True)
class SteveRecord:
    """SteVe's row of the tag, as read at `read_at`."""

    ocpp_tag_pk: int
    max_active_transaction_count: int
    blocked: bool
    expiry: datetime | None
    parent_id_tag: str
    note: str
    in_transaction: bool
    active_transaction_count: int
    read_at: datetime
    user_pk: int | None = None
    parent_ocpp_tag_pk: int | None = None


@dataclass(frozen=True, slots=True)
class Steve:
    """`absent`: SteVe answered that it does not know the card. `silent`: no answer of `who`, which is another where
    nobody asked SteVe for want of it; `record` is the last known.
    """

    answer: Literal["present", "absent", "silent"]
    record: SteveRecord | None = None
    who: str = "SteVe"

    @property
    def silence(self) -> str:
        """Why it is not known what SteVe has now."""
        if self.who == "SteVe":
            return "SteVe did not answer"
        return f"{fmt.sentence(self.who)} did not answer, so nobody asked SteVe"

    @property
    def banner(self) -> str:
        if self.answer != "silent":
            return ""
        silence = "SteVe is unreachable right now" if self.who == "SteVe" else self.silence
        return f"{silence}; charging history and hierarchy may be stale."

    def mark(self, now: datetime) -> Mark:
        if self.answer == "absent":
            return Mark(State.WRONG, "not in SteVe", "SteVe does not know this card, and answers Invalid.")
        if self.answer == "silent" or self.record is None:
            word = "did not answer" if self.who == "SteVe" else "not asked"
            return Mark(State.UNKNOWN, word, f"{self.silence}; what is shown may be stale.")
        if self.record.blocked:
            return Mark(State.WRONG, "blocked", "SteVe answers Blocked: the limit is 0.")
        if self.record.expiry is not None and self.record.expiry <= now:
            return Mark(State.WRONG, "expired", "SteVe answers Expired.")
        return Mark(State.OK, "accepted", "SteVe accepts this card.")


@dataclass(frozen=True, slots=True)
class Relation:
    """A parent or a child, and how it stands in SteVe."""

    id_tag: str
    mark: Mark
    display_name: str = ""


@dataclass(frozen=True, slots=True)
class Relations:
    """`children` is None when nobody answered; `total` counts them all where only some are shown."""

    parent: Relation | None = None
    children: tuple[Relation, ...] | None = ()
    total: int = 0
    actions: tuple[Action, ...] = ()
    parent_silent: bool = False
    above: tuple[str, ...] = ()
    """The parent's parent, and so on, nearest first."""
    circle: str = ""
    """Where the parents run in a circle: that they do, in a sentence."""

    @property
    def parent_unknown(self) -> bool:
        """Whether a card without a parent here may have one."""
        return self.parent_silent or self.children is None

    @property
    def hidden(self) -> int:
        return max(0, self.total - len(self.children or ()))

    @property
    def parent_is_off(self) -> bool:
        return self.parent is not None and self.parent.mark.state is State.WRONG


@dataclass(frozen=True, slots=True)
class Card:
    """`known` false: sync did not answer, so that neither activity nor link can be told. `above`: whether a card above
    it may have the link that it has not; None where there is no such card.
    """

    id_tag: str
    card_type: str
    active: bool
    is_meta: bool = False
    display_name: str = ""
    id_tag_as_sent: str = ""
    link: Link | None = None
    steve: Steve = Steve("silent")
    known: bool = True
    above: Literal["not_asked", "silent"] | None = None

    @property
    def title(self) -> str:
        return "Meta-EV Card details" if self.is_meta else "EV Card details"

    @property
    def type_word(self) -> str:
        if not self.card_type:
            return "No type" if self.known else "Not known"
        return _TYPES.get(self.card_type, fmt.sentence(fmt.words(self.card_type)))

    @property
    def activity(self) -> Mark:
        if not self.known:
            return Mark(State.UNKNOWN, "Not known", "Sync did not answer.")
        if self.active:
            return Mark(State.OK, "Active")
        return Mark(State.ATTENTION, "Not active", "It can still charge in SteVe, but its sessions are held.")

    @property
    def unlinked(self) -> Mark:
        """How a card without a link stands."""
        if not self.known:
            return Mark(State.UNKNOWN, "Not known", "Sync did not answer.")
        if self.above == "silent":
            return Mark(State.UNKNOWN, "Not known", "Sync did not say whether a card above it is linked.")
        if self.above == "not_asked":
            return Mark(State.NEUTRAL, "No link of its own", "That of a card above it applies, where one has one.")
        return Mark(State.ATTENTION, "Not linked", "Its sessions are held.")

    @property
    def href(self) -> str:
        return paths.card(self.id_tag)


@dataclass(frozen=True, slots=True)
class CardPage:
    """The card page. `diagnosis` None: it could not be made, and the page says so."""

    card: Card
    diagnosis: Diagnosis | None
    relations: Relations
    sessions: Sessions
    timeline: Timeline
    actions: tuple[Action, ...] = ()

    @property
    def banner(self) -> str:
        return self.card.steve.banner


@dataclass(frozen=True, slots=True)
class CardRow:
    card: Card
    last_session: datetime | None = None


@dataclass(frozen=True, slots=True)
class CardList:
    """`rows` is None when sync did not answer. `total` is all that match, where that is known."""

    rows: tuple[CardRow, ...] | None
    query: str = ""
    chips: tuple[Chip, ...] = ()
    kept: tuple[tuple[str, str], ...] = ()
    total: int | None = None
    pager: Pager | None = None

    @property
    def filtered(self) -> bool:
        return bool(self.query) or bool(self.kept)

    @property
    def with_last_session(self) -> bool:
        """Whether anybody was asked when the cards last charged."""
        return any(row.last_session for row in self.rows or ())
