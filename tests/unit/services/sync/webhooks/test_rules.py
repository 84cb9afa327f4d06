"""What a webhook says and what follows from it."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sync.webhooks import rules
from services.sync.webhooks.rules import Hint, UnreadableError


def body(webhook_type: str, object_type: str, content: Any) -> bytes:  # noqa: ANN401 - any JSON
    return json.dumps({"webhook_type": webhook_type, "object_type": object_type, object_type: content}).encode()


@pytest.mark.parametrize("kind", ["started", "updated", "terminated", "canceled"])
def test_a_subscriptions_webhook_names_it(kind: str) -> None:
    """Whatever happened to a subscription, it is the one to look at again."""
    received = rules.read(body(f"subscription.{kind}", "subscription", {"external_id": "sub_ada"}))
    assert received.object_id == "sub_ada"
    assert rules.hint(received) == Hint(subscriptions=frozenset({"sub_ada"}))


@pytest.mark.parametrize("kind", ["created", "updated"])
def test_a_customers_webhook_names_the_customer(kind: str) -> None:
    """What is believed about a changed customer's subscriptions is looked at again."""
    hint = rules.hint(rules.read(body(f"customer.{kind}", "customer", {"external_id": "cus_ada"})))
    assert hint == Hint(customers=frozenset({"cus_ada"}))


def test_an_invoice_is_about_its_customer() -> None:
    """A period that was invoiced is over for the customer's subscriptions."""
    content = {"lago_id": "1", "customer": {"external_id": "cus_ada"}}
    assert rules.hint(rules.read(body("invoice.created", "invoice", content))) == Hint(customers=frozenset({"cus_ada"}))


def test_event_errors_are_kept_by_event() -> None:
    """The hourly report lists ids by what is wrong; an event may stand under several."""
    content = {"invalid_code": ["a", "b"], "missing_aggregation_property": ["b"], "missing_group_key": []}
    hint = rules.hint(rules.read(body("events.errors", "events_errors", content)))
    assert hint == Hint(events={"a": "invalid_code", "b": "invalid_code, missing_aggregation_property"})


def test_a_type_that_nobody_knows_is_nothing_to_act_on() -> None:
    """What a later Lago may tell is read and left alone."""
    assert rules.hint(rules.read(body("feature.created", "feature", {"code": "x"}))) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no json",
        b"[]",
        b'"text"',
        b"{}",
        b'{"webhook_type": 1, "object_type": "x"}',
        b'{"webhook_type": "a b", "object_type": "x"}',
        b'{"webhook_type": "a\\u0000", "object_type": "x"}',
        b'{"webhook_type": "a.b", "object_type": ""}',
        b'{"webhook_type": "' + b"a" * 101 + b'", "object_type": "x"}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_webhook_is_refused(content: bytes) -> None:
    """Anything else than an object with a type is none of Lago's, however it is written."""
    with pytest.raises(UnreadableError):
        rules.read(content)


@pytest.mark.parametrize("external_id", [None, "", 7, "x" * 256, "a\x00b", "\ud800", ["sub"]])
def test_a_known_type_without_a_usable_id_is_unreadable(external_id: object) -> None:
    """An id that could not be one of ours is not looked for, and not put into a database that cannot hold it."""
    received = rules.read(body("subscription.updated", "subscription", {"external_id": external_id}))
    assert received.object_id is None
    with pytest.raises(UnreadableError, match="has no external_id"):
        rules.hint(received)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda one: st.lists(one) | st.dictionaries(st.text(), one),
        max_leaves=8,
    )
)
def test_no_content_breaks_the_reading(content: object) -> None:
    """Whatever stands under a known type, it is a hint or unreadable, and nothing else."""
    for kind, object_type in (
        ("subscription.updated", "subscription"),
        ("customer.updated", "customer"),
        ("invoice.created", "invoice"),
        ("events.errors", "events_errors"),
    ):
        try:
            hint = rules.hint(rules.read(body(kind, object_type, content)))
        except UnreadableError:
            continue
        assert isinstance(hint, Hint)


def test_pauses_grow_and_end() -> None:
    """About a second first, never more than a quarter of an hour, and after hours it is given up."""
    pauses = [rules.pause_after(attempts, 1.0) for attempts in range(1, rules.MOST_ATTEMPTS)]
    assert pauses[0] == timedelta(seconds=1)
    kept = [one for one in pauses if one is not None]
    assert len(kept) == len(pauses)
    assert kept == sorted(kept)
    assert kept[-1] == timedelta(seconds=900)
    assert timedelta(hours=2) < sum(kept, timedelta()) < timedelta(hours=3)
    assert rules.pause_after(rules.MOST_ATTEMPTS, 0.0) is None


@given(st.integers(1, rules.MOST_ATTEMPTS - 1), st.floats(0, 1))
def test_jitter_shortens_by_a_quarter_at_most(attempts: int, chance: float) -> None:
    """Two replicas do not come back at the same moment, and neither comes back at once."""
    longest, pause = rules.pause_after(attempts, 1.0), rules.pause_after(attempts, chance)
    assert longest is not None
    assert pause is not None
    assert longest * 0.74 <= pause <= longest
