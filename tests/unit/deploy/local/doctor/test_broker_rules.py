from dataclasses import replace
from typing import Any

import pytest

from deploy.local.doctor.broker import rules
from deploy.local.doctor.broker.rules import Found

FINE = Found("unpacked", "amqp://x:***@127.0.0.1:1/", running=True, answers=True, version="3.10", parked={"q": 0})


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("url", "given by its URL"),
        ("installed", "installed rabbitmq-server"),
        ("unpacked", "unpacked"),
        ("docker", "Docker"),
    ],
)
def test_a_broker_with_all_it_needs_is_fine_and_says_which_it_is(way: str, words: str) -> None:
    """Every check says yes, and the first says which of the ways serves."""
    results = rules.judge(replace(FINE, way=way))
    assert {one.answer for one in results} == {"yes"}
    assert words in results[0].why


@pytest.mark.parametrize(
    ("change", "answers", "check", "words", "remedy"),
    [
        ({"running": False}, "no unknown unknown unknown", 0, "not running", "`expressync up`"),
        ({"running": False, "way": "none"}, "no unknown unknown unknown", 0, "downloaded", "`expressync up`"),
        ({"readable": False, "way": "url"}, "no unknown unknown unknown", 0, "cannot be read", "amqp://user"),
        ({"answers": False, "way": "url"}, "no unknown unknown unknown", 0, "answers at", "EXPRESSYNC_AMQP_URL"),
        ({"answers": False}, "no unknown unknown unknown", 0, "answers at", "`expressync down --keep`"),
        ({"refusal": "ACCESS_REFUSED"}, "yes no unknown unknown", 1, "ACCESS_REFUSED", "EXPRESSYNC_AMQP_URL"),
        ({"missing": ("queue a", "queue b")}, "yes yes no yes", 2, "no queue a and queue b", "`expressync up`"),
        (
            {"leaderless": "a.events"},
            "yes yes no unknown",
            2,
            "a.events does not",
            "`rabbitmqctl delete_queue a.events`",
        ),
        ({"parked": {"a.parked": 2, "b.parked": 0}}, "yes yes yes no", 3, "2 messages", "expressync parked list"),
        ({"parked": {"a.parked": 1}}, "yes yes yes no", 3, "1 message could", "expressync parked replay"),
    ],
)
def test_what_is_wrong_with_a_broker_is_named_with_a_remedy(
    change: dict[str, Any], answers: str, check: int, words: str, remedy: str
) -> None:
    """Each fault is a finding of its own check; what lies behind it is unknown."""
    results = rules.judge(replace(FINE, **change))
    assert [one.answer for one in results] == answers.split()
    assert words in results[check].why
    assert remedy in (results[check].remedy or "")


def test_the_queues_of_parked_messages_are_named() -> None:
    """Only queues that hold something are listed, with their number."""
    said = rules.judge(replace(FINE, parked={"audit.events.parked": 3, "sync.events.parked": 0}))[3].why
    assert "audit.events.parked 3" in said
    assert "sync" not in said
