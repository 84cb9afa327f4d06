from datetime import UTC, date, datetime, timedelta

import pytest

from deploy.demo.steve import rules
from deploy.demo.steve.model import (
    AuthorizationStatus,
    MeterValue,
    Stop,
    StopActor,
    Tag,
    Transaction,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ACCEPTED, BLOCKED = AuthorizationStatus.ACCEPTED, AuthorizationStatus.BLOCKED
EXPIRED, INVALID = AuthorizationStatus.EXPIRED, AuthorizationStatus.INVALID
CONCURRENT = AuthorizationStatus.CONCURRENT_TX


def tag(limit: int = 1, expiry: datetime | None = None) -> Tag:
    return Tag(pk=1, id_tag="04A1B2C3", limit=limit, expiry=expiry)


def transaction(start_wh: int = 1000, stop: Stop | None = None) -> Transaction:
    return Transaction(
        pk=7,
        charge_box_id="CP-1",
        charge_box_pk=1,
        connector_id=1,
        id_tag="04A1B2C3",
        tag_pk=1,
        start_at=NOW - HOUR,
        start_value=str(start_wh),
        stops=[] if stop is None else [stop],
    )


@pytest.mark.parametrize(
    ("card", "active", "at_authorize", "at_start"),
    [
        (None, 0, INVALID, INVALID),
        (tag(limit=0), 0, BLOCKED, BLOCKED),
        (tag(limit=0, expiry=NOW - HOUR), 0, BLOCKED, BLOCKED),
        (tag(expiry=NOW - HOUR), 0, EXPIRED, EXPIRED),
        (tag(expiry=NOW - HOUR), 1, EXPIRED, EXPIRED),
        (tag(limit=1), 1, ACCEPTED, CONCURRENT),
        (tag(limit=2), 1, ACCEPTED, ACCEPTED),
        (tag(limit=2), 2, ACCEPTED, CONCURRENT),
        (tag(limit=-1), 99, ACCEPTED, ACCEPTED),
        (tag(expiry=NOW + HOUR), 0, ACCEPTED, ACCEPTED),
        (tag(), 0, ACCEPTED, ACCEPTED),
    ],
    ids=[
        "unknown",
        "blocked",
        "blocked before expired",
        "expired",
        "expired before concurrent",
        "at the limit of one",
        "below a limit of two",
        "at the limit of two",
        "unlimited",
        "not yet expired",
        "nothing special",
    ],
)
def test_decision_order(
    card: Tag | None, active: int, at_authorize: AuthorizationStatus, at_start: AuthorizationStatus
) -> None:
    """Unknown, blocked, expired, at the limit, accepted: in this order; only a start looks at the limit."""
    assert rules.decide(card, active_count=active, is_start=False, now=NOW) is at_authorize
    assert rules.decide(card, active_count=active, is_start=True, now=NOW) is at_start


STATION_STOP = Stop(at=NOW, value="2000", reason=None, actor=StopActor.STATION)
MANUAL_STOP = Stop(at=NOW, value="1000", reason=None, actor=StopActor.MANUAL)


@pytest.mark.parametrize(
    ("given", "stopped_at", "value_wh", "why"),
    [
        (None, NOW, 2000, "unknown"),
        (transaction(), NOW, 999, "below the start value"),
        (transaction(), NOW - 2 * HOUR, 2000, "before the start"),
        (transaction(), NOW + HOUR, 2000, "in the future"),
        (transaction(stop=STATION_STOP), NOW, 3000, "stopped this transaction before"),
        (transaction(stop=MANUAL_STOP), NOW, 3000, None),
        (transaction(), NOW, 1000, None),
        (transaction(), NOW + timedelta(minutes=4), 2000, None),
    ],
    ids=["unknown", "meter back", "time back", "future", "double", "after manual", "no energy", "clock ahead"],
)
def test_stop_checks(given: Transaction | None, stopped_at: datetime, value_wh: int, why: str | None) -> None:
    """A stop that does not add up fails; one after a manual stop does not."""
    failure = rules.stop_failure(given, stopped_at=stopped_at, value_wh=value_wh, now=NOW)
    if why is None:
        assert failure is None
    else:
        assert failure is not None
        assert why in failure


def reading(value: str, minutes: int, unit: str | None = "Wh", measurand: str | None = None) -> MeterValue:
    return MeterValue(at=NOW - HOUR + timedelta(minutes=minutes), value=value, unit=unit, measurand=measurand)


def test_manual_stop_takes_the_last_energy_reading_rounded_up() -> None:
    """A manual stop is given the newest energy reading, kWh converted, fractions rounded up."""
    readings = [reading("1.5001", 20, "kWh"), reading("1100", 10), reading("16.2", 30, "A")]
    stop = rules.manual_stop(transaction(), readings, None)
    assert (stop.value, stop.at, stop.actor) == ("1501", readings[0].at, StopActor.MANUAL)


def test_manual_stop_without_readings_takes_the_next_start() -> None:
    """Without readings it is given the start of the next session on the connector, never less than its own."""
    following = transaction(start_wh=1700)
    following.start_at = NOW
    assert rules.manual_stop(transaction(), [], following).value == "1700"
    assert rules.manual_stop(transaction(start_wh=5000), [], following).value == "5000"
    assert rules.manual_stop(transaction(), [], following).at == NOW


def test_manual_stop_without_anything_takes_its_own_start() -> None:
    """With neither readings nor a next session it ends where and when it began."""
    stop = rules.manual_stop(transaction(), [], None)
    assert (stop.value, stop.at) == ("1000", NOW - HOUR)


def test_equal_readings_are_shown_once() -> None:
    """Readings that differ only in time are shown once, with the first time, oldest first."""
    readings = [reading("1200", 30), reading("1100", 10), reading("1100", 20)]
    assert [(one.value, one.at) for one in rules.first_of_equal(readings)] == [
        ("1100", readings[1].at),
        ("1200", readings[0].at),
    ]


@pytest.mark.parametrize(
    ("period", "days"),
    [
        ("TODAY", (date(2026, 5, 1), date(2026, 5, 1))),
        ("LAST_10", (date(2026, 4, 21), date(2026, 5, 1))),
        ("LAST_90", (date(2026, 1, 31), date(2026, 5, 1))),
        ("ALL", None),
        ("FROM_TO", None),
    ],
)
def test_periods(period: str, days: tuple[date, date] | None) -> None:
    """TODAY and LAST_n are whole days in UTC, both ends included."""
    assert rules.period_days(period, date(2026, 5, 1)) == days
