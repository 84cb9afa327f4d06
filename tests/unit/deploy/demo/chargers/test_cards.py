from datetime import UTC, datetime

import pytest

from deploy.demo.chargers.cards import Cards
from deploy.demo.chargers.configuration import Configuration

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATER, EARLIER = "2026-05-01T13:00:00.000Z", "2026-05-01T11:00:00.000Z"


def cards(**configuration: str) -> Cards:
    return Cards(Configuration(2, configuration), lambda: NOW)


def test_a_charger_as_delivered_knows_no_card() -> None:
    """With cache and list off everything is asked."""
    memory = cards()
    memory.learn("A", {"status": "Accepted", "expiry_date": LATER})
    assert memory.known("A") is None
    assert not memory.may_start_offline("A")


def test_the_cache_remembers_until_the_expiry() -> None:
    """A cached verdict counts until its expiry date, in any spelling of the tag."""
    memory = cards(AuthorizationCacheEnabled="true")
    memory.learn("a1", {"status": "Blocked", "expiry_date": LATER})
    memory.learn("b1", {"status": "Accepted", "expiry_date": EARLIER})
    assert memory.known("A1") == "Blocked"
    assert memory.known("B1") is None
    memory.clear_cache()
    assert memory.known("A1") is None


def test_the_local_list_comes_first() -> None:
    """Where both know a card the list is right; an entry without info removes the card from it."""
    memory = cards(AuthorizationCacheEnabled="true", LocalAuthListEnabled="true")
    memory.learn("A", {"status": "Accepted"})
    memory.update_list(3, [{"id_tag": "A", "id_tag_info": {"status": "Blocked"}}], full=True)
    assert (memory.known("A"), memory.list_version) == ("Blocked", 3)
    memory.update_list(4, [{"id_tag": "a"}], full=False)
    assert memory.known("A") == "Accepted"


@pytest.mark.parametrize(
    ("configuration", "known", "unasked", "offline"),
    [
        ({}, True, False, False),
        ({"LocalPreAuthorize": "true"}, True, True, False),
        ({"LocalPreAuthorize": "true"}, False, False, False),
        ({"LocalAuthorizeOffline": "true"}, True, False, True),
        ({"LocalAuthorizeOffline": "true"}, False, False, False),
        ({"AllowOfflineTxForUnknownId": "true"}, False, False, True),
    ],
)
def test_what_may_start_without_asking(
    configuration: dict[str, str], *, known: bool, unasked: bool, offline: bool
) -> None:
    """The keys decide whether a card starts without an Authorize, online and offline."""
    memory = cards(AuthorizationCacheEnabled="true", **configuration)
    if known:
        memory.learn("A", {"status": "Accepted"})
    assert memory.may_start_unasked("A") == unasked
    assert memory.may_start_offline("A") == offline
