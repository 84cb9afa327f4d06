from datetime import UTC, datetime, timedelta

import pytest

from deploy.demo.chargers.faults import Fault, Faults, parse_fault

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("slow=500", Fault(name="slow", value=500)),
        ("clock_skew=-90;charger=CP=1", Fault(name="clock_skew", value=-90, charge_box_id="CP=1")),
    ],
)
def test_a_fault_is_read_from_the_command_line(text: str, fault: Fault) -> None:
    """NAME=NUMBER, for all chargers or for one, whatever its id holds."""
    assert parse_fault(text) == fault


@pytest.mark.parametrize("text", ["", "slow", "slow=", "slow=soon", "meteor=1"])
def test_nonsense_is_refused_with_the_names(text: str) -> None:
    """Who mistypes a fault is told which there are."""
    with pytest.raises(ValueError, match="meter_goes_back"):
        parse_fault(text)


def test_a_charger_has_its_own_faults_only() -> None:
    """Those of another charger do not touch it; new ones take the place of the old."""
    faults = Faults("CP-1", [parse_fault("clock_skew=60"), parse_fault("slow=5;charger=CP-2")])
    assert faults.clock(lambda: NOW)() == NOW + timedelta(seconds=60)
    assert faults.value("slow") == 0
    faults.replace([])
    assert faults.clock(lambda: NOW)() == NOW
