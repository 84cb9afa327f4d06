from datetime import UTC, datetime, timedelta

from deploy.demo.chargers.session import Connector, Pace, Session

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DEMO = Pace(power_w=12_400, behind=HOUR, factor=720, energy_wh=12_400)


def begin(pace: Pace, connector: Connector | None = None, at: datetime = NOW) -> Session:
    return (connector or Connector(1, 1_000)).begin("04A1B2C3", pace, at)


def test_a_backdated_session_looks_like_the_hour_that_just_ended() -> None:
    """At 720-fold speed five seconds are an hour: it starts an hour ago and has caught up then."""
    session = begin(DEMO)
    later = NOW + timedelta(seconds=6)
    session.grow(later)
    assert session.started_at == NOW - HOUR
    assert session.now(later) == later
    assert session.energy_wh == 12_400
    assert session.full


def test_half_way_through_it_has_delivered_half() -> None:
    """Energy follows the station's time and the power."""
    session = begin(DEMO)
    half = NOW + timedelta(seconds=2.5)
    session.grow(half)
    assert session.now(half) == NOW - HOUR + timedelta(minutes=30)
    assert session.meter_wh == 1_000 + 6_200


def test_the_stations_clock_never_runs_ahead() -> None:
    """A fast clock without backdating stays at the real time: a stop in the future would fail."""
    session = begin(Pace(factor=1_000))
    assert session.now(NOW + timedelta(seconds=10)) == NOW + timedelta(seconds=10)


def test_delivered_energy_never_shrinks() -> None:
    """A value set by hand is kept until the power has delivered more."""
    session = begin(Pace())
    session.grow(NOW, 5_000)
    session.grow(NOW + timedelta(seconds=1))
    assert session.energy_wh == 5_000


def test_sessions_of_one_connector_never_overlap() -> None:
    """A backdated session begins at the earliest when the one before it ended."""
    connector = Connector(1)
    begin(DEMO, connector)
    connector.end(NOW)
    second = begin(DEMO, connector, NOW + timedelta(seconds=30))
    assert second.started_at == NOW


def test_the_meter_goes_on_where_it_stopped() -> None:
    """The next session starts at the value where the last one stopped."""
    connector = Connector(1, 1_000)
    begin(DEMO, connector).grow(NOW, 700)
    connector.end(NOW)
    assert begin(DEMO, connector).meter_start_wh == 1_700
