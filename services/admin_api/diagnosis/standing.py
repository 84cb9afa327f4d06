"""What SteVe answers for a tag (facts: how a tap is decided), and whether a link holds. Pure."""

from datetime import datetime
from typing import Literal

from shared.contracts.requests.sync import CardView, LinkView, SteveCard

Standing = Literal["accepted", "blocked", "expired"]


def standing(card: SteveCard, now: datetime) -> Standing:
    """In the order in which SteVe looks: rows 2, 3 and 5 of the facts' table."""
    if card.blocked:
        return "blocked"
    if card.expiry is not None and card.expiry <= now:
        return "expired"
    return "accepted"


def is_full(card: SteveCard) -> bool:
    """At its limit of open sessions: Authorize is still accepted, StartTransaction is ConcurrentTx (row 4)."""
    return 0 < card.max_active_transaction_count <= card.active_transaction_count


def is_valid(link: LinkView, now: datetime) -> bool:
    return link.valid_from <= now and (link.valid_to is None or now < link.valid_to)


def circle(card: CardView) -> str:
    """That a card's parents run in a circle, and through which cards, in a sentence; empty where they do not."""
    if not card.parent_cycle:
        return ""
    way = " → ".join([card.id_tag, *card.ancestors])
    return f"Its parents run in a circle, {way} and round again, which is not followed: change one of them."
