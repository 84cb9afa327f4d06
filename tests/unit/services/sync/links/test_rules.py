"""Whose session it is."""

from datetime import UTC, datetime, timedelta

import pytest

from services.sync.links.rules import Link, Nobody, Owner, Parent, resolve

T = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def link(subscription: str, since: int, until: int | None = None) -> Link:
    return Link("cus", subscription, T + since * DAY, T + until * DAY if until is not None else None, linked_at=T)


def parent(name: str, since: int = -99, until: int | None = None) -> Parent:
    return Parent(name, T + since * DAY, T + until * DAY if until is not None else None)


LINKS = {
    "OWN": [link("own-old", 0, 10), link("own-new", 10)],
    "TOP": [link("top", 0)],
    "MID": [link("mid", 5, 8)],
}
PARENTS = {
    "LOW": [parent("MID", until=20), parent("OTHER", 20)],
    "MID": [parent("TOP")],
    "RING-A": [parent("RING-B")],
    "RING-B": [parent("RING-A")],
}


@pytest.mark.parametrize(
    ("id_tag", "day", "expected"),
    [
        ("OWN", -1, None),
        ("OWN", 0, "own-old"),
        ("OWN", 9.99, "own-old"),
        ("OWN", 10, "own-new"),
        ("LOW", 1, "top"),
        ("LOW", 6, "mid"),
        ("LOW", 8, "top"),
        ("LOW", 21, None),
        ("RING-A", 1, None),
        ("NOBODY", 1, None),
    ],
)
def test_the_nearest_link_valid_at_the_start_owns_the_session(id_tag: str, day: float, expected: str | None) -> None:
    """The card's own link at that time, or else its nearest ancestor's at that time; a circle ends."""
    found = resolve(id_tag, T + day * DAY, LINKS, PARENTS)
    assert (found.external_subscription_id if isinstance(found, Owner) else None) == expected
    if id_tag.startswith("RING"):
        assert found == Nobody(cycle=True)
