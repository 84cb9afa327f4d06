"""Roles, names, passwords, the guard against guessing, and how long sessions live."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.admin_api.access import opaque, rules
from services.admin_api.access.rules import Bucket, Lifetime, Limit
from shared.contracts.events.admin_api import Role

NOW = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("role", "may"),
    [("viewer", {"viewer"}), ("operator", {"viewer", "operator"}), ("admin", {"viewer", "operator", "admin"})],
)
def test_a_role_may_what_it_and_the_lower_ones_may(role: Role, may: set[Role]) -> None:
    """Viewer, operator, admin: each may also what stands before it."""
    roles: tuple[Role, ...] = ("viewer", "operator", "admin")
    assert {needed for needed in roles if rules.allows(role, needed)} == may


@pytest.mark.parametrize(
    ("name", "fine"),
    [
        *((name, True) for name in ("ada", "ada@example.com", "7", "a" * 64)),
        *((name, False) for name in ("", ".ada", "ada b", "?", "Ada", "a" * 65, "ädä", "a\n")),
    ],
)
def test_an_operators_name_is_plain(name: str, *, fine: bool) -> None:
    """What stands in subjects, logs and addresses needs no quoting."""
    assert rules.is_operator_name(name) is fine


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("correct horse", None),
        ("elevenchars", "at least 12"),
        ("x" * 257, "at most 256"),
        ("one-time-password", "one-time"),
        ("abcabcabcabcabc", "repeats"),
        ("adminadminadmin", "repeats"),
        ("ADMINadminADMIN", "repeats"),
    ],
)
def test_a_password_is_long_and_not_obvious(password: str, fault: str | None) -> None:
    """Length counts; what is trivially guessed does not pass."""
    found = rules.password_fault(password, name="admin", one_time="one-time-password")
    assert found is None if fault is None else found is not None and fault in found


LIMIT = Limit(free=3, first_s=30, longest_s=100)


def test_attempts_close_the_bucket_for_longer_and_longer() -> None:
    """Two are free; from the third on each closes it: 30 s, 60 s, then 100 s and not more."""
    bucket, now, waits = None, NOW, []
    for _ in range(6):
        bucket = rules.count_attempt(bucket, LIMIT, now)
        waits.append(int(rules.locked_for(bucket, now).total_seconds()))
        now = max(now, bucket.locked_until or now)
    assert waits == [0, 0, 30, 60, 100, 100]


def test_a_quiet_quarter_of_an_hour_is_forgiven() -> None:
    """Counting starts again; a lock that is over does not come back."""
    bucket = Bucket(attempts=40, last_attempt_at=NOW, locked_until=NOW + timedelta(seconds=100))
    later = rules.count_attempt(bucket, LIMIT, NOW + rules.FORGET_AFTER)
    assert (later.attempts, later.locked_until) == (1, None)


@given(st.lists(st.integers(0, 300), max_size=60))
def test_guessing_is_bounded_whatever_its_rhythm(pauses_s: list[int]) -> None:
    """In any quarter of an hour without a pause of one, no more attempts pass than the limit and the locks allow."""
    bucket: Bucket | None = None
    now, passed = NOW, []
    for pause in pauses_s:
        now += timedelta(seconds=pause)
        if bucket is None or not rules.locked_for(bucket, now):
            bucket = rules.count_attempt(bucket, rules.LIMITS["pair"], now)
            passed.append(now)
    for start in passed:
        window = [at for at in passed if start <= at < start + timedelta(minutes=15)]
        # 5 at once, then after 30, 60, 120, 240 and 480 s, which are 930 s together.
        assert len(window) <= 5 + 5


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("unix", "unknown"),
    ],
)
def test_one_customer_is_one_source(address: str, source: str) -> None:
    """An IPv6 customer has a /64 and could otherwise guess from 2^64 addresses."""
    assert rules.source_of(address) == source


LIVES = Lifetime(idle=timedelta(hours=2), browser=timedelta(hours=12), cli=timedelta(days=30))


@pytest.mark.parametrize(
    ("kind", "seen_ago", "born_ago", "over"),
    [
        ("browser", timedelta(minutes=119), timedelta(hours=3), False),
        ("browser", timedelta(hours=2), timedelta(hours=3), True),
        ("browser", timedelta(minutes=1), timedelta(hours=12), True),
        ("cli", timedelta(days=20), timedelta(days=20), False),
        ("cli", timedelta(minutes=1), timedelta(days=30), True),
    ],
)
def test_a_session_ends_by_its_age_and_a_browsers_by_idling_too(
    kind: rules.SessionKind, seen_ago: timedelta, born_ago: timedelta, *, over: bool
) -> None:
    """Both bounds hold at their instant."""
    expires_at = LIVES.expires_at(kind, NOW - born_ago)
    assert LIVES.is_over(kind, last_seen_at=NOW - seen_ago, expires_at=expires_at, now=NOW) is over


def test_secrets_are_recognised_by_their_beginning_and_never_repeat() -> None:
    """A scanner finds them, people know which one it is, and only a digest has to be kept."""
    token, prefix = opaque.api_token()
    assert token.startswith(f"{prefix}_")
    assert prefix.startswith("expressync_")
    assert len({opaque.session_token() for _ in range(100)} | {opaque.api_token()[0] for _ in range(100)}) == 200
    assert opaque.digest(token) != opaque.digest(prefix)


def test_a_one_time_password_can_be_read_aloud() -> None:
    """Four groups of four, without 0, O, 1, l and i."""
    groups = opaque.one_time_password().split("-")
    assert [len(group) for group in groups] == [4, 4, 4, 4]
    assert not set("".join(groups)) & set("0o1li")


def test_a_form_token_belongs_to_one_cookie() -> None:
    """Made from the cookie's value, and of no use with another."""
    assert opaque.same(opaque.csrf_token("a"), opaque.csrf_token("a"))
    assert not opaque.same(opaque.csrf_token("a"), opaque.csrf_token("b"))
    assert not opaque.same(opaque.csrf_token("a"), "é")
