"""What the fault tests forgive a busy machine, and what they do not forgive a hook."""

import pytest

from tests.faults.taps import Answer, check_answers


def answers(*seconds: float) -> list[Answer]:
    return [Answer(f"CARD-{number}", 200, {"override": None}, each) for number, each in enumerate(seconds)]


def some(count: int, *late: float) -> list[Answer]:
    return answers(*[0.02] * (count - len(late)), *late)


# The longest of them took 0.1 s: 0.3 s is still as it was, with the caller's budget.
HEALTHY = some(50, 0.1)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(some(50), id="as it was"),
        pytest.param(some(100, *[0.79] * 9), id="some a little late"),
        pytest.param(some(50, 0.9, 1.2, 2.0, 3.2), id="the machine stood still once, and held all callers"),
        pytest.param(some(2000, *[1.0] * 10), id="it did so a few times in minutes"),
    ],
)
def test_a_busy_machine_is_forgiven(found: list[Answer]) -> None:
    """Nothing waits for what is away, and a few taps are late with nothing wrong."""
    check_answers(found, HEALTHY, HEALTHY)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        pytest.param(some(50, *[0.25] * 6), "were in time", id="a tenth misses the budget"),
        pytest.param(answers(*[0.9] * 50), "were in time", id="each waits"),
        pytest.param(some(100, *[0.9] * 5), "took long", id="each twentieth waits"),
        pytest.param(some(2000, *[0.9] * 11), "took long", id="some wait, now and then"),
        pytest.param(some(2000, 3.4), "when all was well", id="one waits for seconds"),
        pytest.param([*some(50), Answer("X", None, None, 0.0)], "not let through", id="one has no answer"),
        pytest.param([*some(50), Answer("X", 503, "", 0.0)], "not let through", id="one is refused"),
        pytest.param([*some(50), Answer("X", 200, {"override": "BLOCKED"}, 0.0)], "not let through", id="one blocked"),
    ],
)
def test_a_hook_that_waits_is_found(found: list[Answer], why: str) -> None:
    """Of each kind of waiting so much is red that a busy machine does not do it."""
    with pytest.raises(AssertionError, match=why):
        check_answers(found, HEALTHY, HEALTHY)


def test_a_machine_that_is_too_busy_proves_nothing() -> None:
    """Then the test says so, instead of what it found."""
    with pytest.raises(AssertionError, match="too busy"):
        check_answers(some(50), some(50, *[0.5] * 21))
