"""What the overview says of what waits."""

from datetime import UTC, datetime, timedelta

from services.admin_api.answers import Answered, Silent
from services.admin_api.api.overview import Overview
from services.admin_api.console.drawing.overview import overview
from shared.contracts.requests.sync import Billing, SessionPage, SessionView

NOW = datetime(2026, 11, 30, 5, tzinfo=UTC)


def session(began: timedelta, ended: timedelta) -> SessionView:
    return SessionView(
        session="demo:1",
        charge_box_id="CP-1",
        connector_id=1,
        id_tag="A",
        started_at=NOW - began,
        stopped_at=NOW - ended,
        start_wh=0,
        stop_wh=1_000,
        energy_wh=1_000,
        stop_reason=None,
        billing=Billing(state="pending"),
    )


def test_a_session_waits_to_be_sent_since_it_ended() -> None:
    """One that charged all night has not waited all night."""
    silent = Silent(who="sync", why="no reply within 0.5 s", as_of=NOW)
    night, short = (
        session(timedelta(hours=9), timedelta(seconds=5)),
        session(timedelta(minutes=3), timedelta(minutes=2)),
    )
    pending = Answered[SessionPage](value=SessionPage(sessions=[night, short]), as_of=NOW)
    drawn = overview(
        Overview(upstreams=[], taps=silent, sessions=silent, held=silent, pending=pending, interception=silent)
    )
    assert (drawn.waiting[1].number, drawn.waiting[1].oldest) == (2, NOW - timedelta(minutes=2))
