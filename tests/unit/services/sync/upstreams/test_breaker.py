"""An upstream that fails is left alone, for longer each time."""

from datetime import UTC, datetime, timedelta

from services.sync.upstreams.breaker import FAILURES_TO_OPEN, Breaker
from services.sync.upstreams.errors import MisconfiguredError, RefusedError, UnavailableError
from services.sync.upstreams.rules import Standing, after

NOW = datetime(2026, 5, 1, tzinfo=UTC)


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_after_failures_and_lets_one_trial_through() -> None:
    """Closed until it failed three times; then one call a pause, which to look is not, and a success closes it."""
    time = Time()
    breaker = Breaker(time, jitter=lambda: 1.0)
    for _ in range(FAILURES_TO_OPEN):
        assert breaker.wait_s() == 0
        breaker.failed()
    assert breaker.wait_s() > 0
    assert breaker.is_open
    time.now = 0.6
    assert not breaker.is_open
    assert breaker.wait_s() == 0
    assert breaker.is_open
    assert breaker.wait_s() > 0
    breaker.failed()
    time.now = 1.2
    assert breaker.wait_s() > 0
    time.now = 1.7
    assert breaker.wait_s() == 0
    breaker.succeeded()
    assert breaker.wait_s() == 0
    assert breaker.wait_s() == 0


def test_pauses_grow_to_their_limit() -> None:
    """However often it fails, it is asked again within the longest pause."""
    time = Time()
    breaker = Breaker(time, longest_pause_s=30, jitter=lambda: 1.0)
    for _ in range(40):
        breaker.failed()
    assert 0 < breaker.wait_s() <= 30


def test_a_rate_limit_is_waited_for_and_no_failure() -> None:
    """A pause that was asked for is kept to, whatever succeeds meanwhile, and does not open the circuit."""
    time = Time()
    breaker = Breaker(time)
    breaker.pause(7)
    assert breaker.wait_s() == 7
    assert breaker.failures == 0
    time.now = 6
    breaker.succeeded()
    assert (breaker.wait_s(), breaker.is_open) == (1, True)
    time.now = 7
    assert breaker.wait_s() == 0


def test_one_hiccup_is_no_loss_and_a_wrong_password_is() -> None:
    """Two failures in a row lose an upstream; a fault of configuration does at once; a refusal never does."""
    standing = Standing("ok", NOW)
    once = after(standing, UnavailableError("lago", "timed_out", "x"), NOW)
    assert once.state == "ok"
    assert after(once, UnavailableError("lago", "timed_out", "x"), NOW).state == "lost"
    assert after(standing, MisconfiguredError("lago", "unauthorized", "x"), NOW).state == "lost"
    assert after(standing, RefusedError("lago", 422, {}), NOW).state == "ok"
    lost = after(once, UnavailableError("lago", "unreachable", "x"), NOW + timedelta(seconds=5))
    assert (lost.since, lost.reason) == (NOW + timedelta(seconds=5), "unreachable")
    assert after(lost, None, NOW + timedelta(seconds=9)).state == "ok"
