"""The frame around a page: who is signed in, and how the upstreams stand."""

from starlette.requests import HTTPConnection

from services.admin_api.access.caller import Caller
from services.admin_api.console.view.frame import Frame, Operator, Upstream
from services.admin_api.console.view.state import State
from services.admin_api.house import House
from services.admin_api.upstreams import UpstreamState

_NAMES = {"steve": "SteVe", "lago": "Lago", "broker": "Broker"}
_STATES = {"ok": State.OK, "lost": State.WRONG, "unknown": State.UNKNOWN}


def frame_for(house: House, caller: Caller, request: HTTPConnection) -> Frame:
    return Frame(
        now=house.clock(),
        operator=Operator(caller.name, caller.role),
        upstreams=upstreams(house.upstreams.now()),
        csrf_token=caller.csrf_token or "",
        rail_collapsed=request.cookies.get("rail") == "icons",
    )


def bare_frame(house: House, csrf_token: str = "") -> Frame:
    """For somebody who is not signed in."""
    return Frame(now=house.clock(), csrf_token=csrf_token)


def upstreams(states: list[UpstreamState]) -> tuple[Upstream, ...]:
    return tuple(
        Upstream(
            _NAMES[each.name],
            _STATES[each.state],
            each.sentence,
            last_answer=each.checked_at if each.state == "ok" else each.since,
            since=each.since if each.state == "lost" else None,
        )
        for each in states
    )
