"""Whose session it is: by its start time, once. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

# Held for want of an owner whom Lago bills: a release may find another one. Together, by a card or with its link, only
# those are released that never had one; who has one is somebody's customer, and is named (docs/decisions/0007).
OWNERLESS: Final = frozenset(
    {
        "card_unlinked",
        "card_unknown",
        "no_active_subscription",
        "other_customer",
        "before_subscription",
        "after_subscription",
        "subscription_invoiced",
    }
)


@dataclass(frozen=True, slots=True)
class Link:
    external_customer_id: str
    external_subscription_id: str
    valid_from: datetime
    valid_to: datetime | None
    # When it was made, which may be long after it is said to have begun.
    linked_at: datetime


@dataclass(frozen=True, slots=True)
class Parent:
    parent_id_tag: str
    valid_from: datetime
    valid_to: datetime | None


@dataclass(frozen=True, slots=True)
class Owner:
    """Who is billed, and through which card."""

    external_customer_id: str
    external_subscription_id: str
    id_tag: str


@dataclass(frozen=True, slots=True)
class Nobody:
    """No link was valid then; `cycle`: the parents run in a circle, which was not followed."""

    reason: Literal["card_unlinked"] = "card_unlinked"
    cycle: bool = False


def _valid(interval: Link | Parent, at: datetime) -> bool:
    return interval.valid_from <= at and (interval.valid_to is None or at < interval.valid_to)


def resolve(
    id_tag: str,
    at: datetime,
    links: Mapping[str, Sequence[Link]],
    parents: Mapping[str, Sequence[Parent]],
    *,
    made_until: datetime | None = None,
) -> Owner | Nobody:
    """The link of the card that was valid at `at`, or else of its nearest ancestor at `at` that had one. Links that
    were made after `made_until` do not count.
    """
    seen: set[str] = set()
    current: str | None = id_tag
    while current is not None:
        if current in seen:
            return Nobody(cycle=True)
        seen.add(current)
        for link in links.get(current, ()):
            if _valid(link, at) and (made_until is None or link.linked_at <= made_until):
                return Owner(link.external_customer_id, link.external_subscription_id, current)
        current = next((one.parent_id_tag for one in parents.get(current, ()) if _valid(one, at)), None)
    return Nobody()
