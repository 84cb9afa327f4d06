"""Anomalies by name, as a table."""

from datetime import UTC, datetime, timedelta

import pytest

from services.sync.sessions.rules import REMEDIES, Around, Limits, Recorded, find

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
START = NOW - timedelta(hours=3)
LIMITS = Limits(connector_kw=22, open_for=timedelta(hours=48))


def recorded(
    start_wh: int | None = 1_000, stop_wh: int | None = 11_000, *, lasted: float = 2.0, start: datetime = START
) -> Recorded:
    return Recorded(start, start_wh, start + timedelta(hours=lasted), stop_wh)


@pytest.mark.parametrize(
    ("one", "around", "expected"),
    [
        (recorded(), Around(), []),
        (recorded(1_000, 1_000), Around(), ["no_energy"]),
        (recorded(1_000, 999), Around(), ["negative_energy"]),
        (recorded(None), Around(), ["meter_unreadable"]),
        (recorded(1_000, None), Around(), ["meter_unreadable"]),
        # 22 kW for two hours, a tenth more, and the tolerance: 48,900 Wh.
        (recorded(0, 48_900), Around(), []),
        (recorded(0, 48_901), Around(), ["too_much_energy"]),
        (recorded(lasted=-0.1), Around(), ["stop_before_start", "too_much_energy"]),
        (recorded(start=NOW), Around(), ["in_future"]),
        (recorded(start=NOW - timedelta(hours=2) + timedelta(minutes=4)), Around(), []),
        (recorded(), Around(previous_start_wh=0, previous_stop_wh=1_000), []),
        (recorded(), Around(previous_start_wh=0, previous_stop_wh=1_001), ["meter_went_back"]),
        (recorded(0, 9_000), Around(previous_start_wh=500, previous_stop_wh=900), ["start_at_zero"]),
        # A station that counts each session from zero has no register that could go back.
        (recorded(0, 9_000), Around(previous_start_wh=0, previous_stop_wh=900), []),
        (recorded(), Around(overlaps="main:7"), ["overlapping"]),
        (recorded(), Around(blocked=True), ["blocked_start"]),
        (recorded(), Around(expired=True), ["expired_start"]),
        (recorded(), Around(verdict="Accepted"), []),
        (recorded(), Around(verdict="Invalid"), ["blocked_start"]),
        (recorded(), Around(verdict="Blocked", blocked=True), ["blocked_start"]),
        (recorded(), Around(verdict="Blocked"), ["blocked_start"]),
        (recorded(), Around(verdict="Blocked", intercepted=True), ["intercepted_start"]),
        (recorded(), Around(verdict="Accepted", intercepted=True), []),
        (recorded(), Around(verdict="Invalid", intercepted=True), ["blocked_start"]),
        (recorded(), Around(blocked=True, intercepted=True), ["blocked_start"]),
        (recorded(), Around(expired=True, intercepted=True), ["expired_start"]),
        (recorded(1_000, 1_000), Around(intercepted=True), ["intercepted_start", "no_energy"]),
        (Recorded(NOW - timedelta(hours=47), 0, None, None), Around(), []),
        (Recorded(NOW - timedelta(hours=49), 0, None, None), Around(), ["open_too_long"]),
    ],
)
def test_each_anomaly_has_its_name(one: Recorded, around: Around, expected: list[str]) -> None:
    """What is wrong with a session is found by name, the one that explains most first."""
    assert [finding.anomaly for finding in find(one, around, now=NOW, limits=LIMITS)] == expected


def test_each_anomaly_has_a_remedy_that_says_what_to_do() -> None:
    """Every name comes with a sentence for the operator."""
    assert all(words.endswith(".") and len(words) > 10 for words in REMEDIES.values())


def test_a_charger_may_have_a_limit_of_its_own() -> None:
    """300 kWh in two hours is plausible somewhere in the house, and not at a charger of 11 kW."""
    limits = Limits(connector_kw=400, open_for=timedelta(hours=48), charger_kw={"CP-7": 11})
    found = {box: find(recorded(0, 300_000), Around(), now=NOW, limits=limits.at(box)) for box in ("CP-1", "CP-7")}
    assert [one.anomaly for one in found["CP-7"]] == ["too_much_energy"]
    assert "a connector of 11 kW" in found["CP-7"][0].explanation
    assert found["CP-1"] == []
