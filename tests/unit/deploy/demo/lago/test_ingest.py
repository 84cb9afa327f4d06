from typing import Any

import pytest

from deploy.demo.lago.events import EventStore
from deploy.demo.lago.ingest import Reader, Reading
from deploy.demo.lago.model import Event, Metric

NOW = 1_777_627_800_000_000
GOOD: dict[str, Any] = {"transaction_id": "t", "external_subscription_id": "s", "code": "kwh", "timestamp": "1"}


def read(*items: dict[str, Any]) -> Reading:
    metrics = {"computed": Metric(code="computed", name="c", created_us=0, expression="event.properties.wh / 1000")}
    return Reader(metrics, 2400).read_all(list(items), NOW)


def event(transaction_id: str = "t", subscription: str | None = "s", timestamp_us: int = 1) -> Event:
    return Event(
        transaction_id=transaction_id,
        external_subscription_id=subscription,
        code="kwh",
        timestamp_us=timestamp_us,
        properties={},
        created_us=NOW,
    )


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"transaction_id": None}, {"transaction_id": ["value_is_mandatory"]}),
        ({"transaction_id": "  "}, {"transaction_id": ["value_is_mandatory"]}),
        ({"transaction_id": {"a": 1}}, {"transaction_id": ["value_is_mandatory"]}),
        ({"code": ""}, {"code": ["value_is_mandatory"]}),
        (
            {"code": None, "transaction_id": ""},
            {"transaction_id": ["value_is_mandatory"], "code": ["value_is_mandatory"]},
        ),
        ({"timestamp": "2026-05-01T09:30:00Z"}, {"timestamp": ["invalid_format"]}),
        ({"timestamp": "x", "code": ""}, {"timestamp": ["invalid_format"]}),
        ({"code": "computed"}, "expression_evaluation_failed: Variable: wh not found"),
    ],
)
def test_what_is_wrong_with_an_event_is_named(change: dict[str, Any], errors: object) -> None:
    """Field errors carry Lago's codes; a wrong timestamp hides the other errors of its event."""
    reading = read({**GOOD, **change})
    assert reading.errors == {0: errors}
    assert reading.events == []


@pytest.mark.parametrize(
    "change",
    [
        {"external_subscription_id": None},
        {"code": "unknown"},
        {"properties": None},
        {"properties": "no object"},
        {"properties": {"kwh": "not a number"}},
        {"timestamp": "1651240791123"},
        {"transaction_id": 7},
    ],
)
def test_what_will_never_be_billed_is_accepted(change: dict[str, Any]) -> None:
    """A missing subscription, an unknown code, unusable properties and epoch milliseconds are no errors."""
    reading = read({**GOOD, **change})
    assert not reading.errors
    assert len(reading.events) == 1


def test_without_a_timestamp_an_event_has_the_time_of_its_arrival() -> None:
    """The server's clock stands in for a timestamp that was not sent."""
    assert read({**GOOD, "timestamp": None}).events[0].timestamp_us == NOW


def test_errors_keep_their_place_in_the_batch() -> None:
    """Each error stands under the index of its event."""
    assert list(read(GOOD, {**GOOD, "code": ""}, GOOD, {**GOOD, "timestamp": ""}).errors) == [1, 3]


@pytest.mark.parametrize(("length", "too_large"), [(2390, False), (2391, True)])
def test_properties_have_a_size_beyond_which_the_database_fails(length: int, too_large: bool) -> None:  # noqa: FBT001
    """`{"kwh":"..."}` may be 2,400 bytes long; one more and the batch cannot be stored."""
    assert read({**GOOD, "properties": {"kwh": "x" * length}}).too_large is too_large


def test_a_year_beyond_the_database_fails() -> None:
    """Epoch microseconds are no format error: they fail inside PostgreSQL."""
    assert read({**GOOD, "timestamp": "1777627800000000"}).too_large


def test_postgres_names_stored_and_repeated_ids() -> None:
    """Unique is the pair of subscription and id: another subscription may use the id again."""
    store = EventStore("postgres")
    store.add_all([event("a")])
    found = store.duplicates([event("b"), event("a"), event("a", "other"), event("b"), event("a", None)])
    assert found == {1: {"transaction_id": ["value_already_exist"]}, 3: {"transaction_id": ["value_already_exist"]}}


def test_clickhouse_replaces_what_has_the_same_timestamp_and_keeps_the_rest() -> None:
    """No duplicate is refused; the same id with another timestamp is another event."""
    store = EventStore("clickhouse")
    assert store.duplicates([event("a"), event("a")]) == {}
    store.add_all([event("a", timestamp_us=1)])
    store.add_all([event("a", timestamp_us=1), event("a", timestamp_us=2)])
    assert [one.seq for one in store] == [2, 3]
    assert len(store.of_subscription("s")) == 2


def test_events_are_found_newest_first() -> None:
    """Search orders by timestamp, then by transaction id, whatever the order of arrival."""
    store = EventStore("postgres")
    store.add_all(
        [event("b", timestamp_us=5), event("c", timestamp_us=9), event("a", timestamp_us=5), event("d", timestamp_us=1)]
    )
    found = store.search(external_subscription_id="s", code=None, from_us=2, to_us=9)
    assert [one.transaction_id for one in found] == ["c", "a", "b"]
    assert store.search(external_subscription_id=None, code="other", from_us=None, to_us=None) == []


def test_an_id_is_found_under_any_subscription() -> None:
    """The first stored event with the id, unless a subscription is given."""
    store = EventStore("postgres")
    store.add_all([event("a", "first"), event("a", "second")])
    first, second = store.find("a"), store.find("a", "second")
    assert first is not None
    assert first.external_subscription_id == "first"
    assert second is not None
    assert second.external_subscription_id == "second"
    assert store.find("b") is None
