"""The audit log, with its filters in the address, and one entry."""

from datetime import UTC, datetime, timedelta
from typing import get_args
from uuid import UUID

from starlette.responses import Response
from starlette.routing import Route

from services.admin_api.api.audit import list_entries, show_entry
from services.admin_api.api.problems import NoSuchPath
from services.admin_api.console import paths
from services.admin_api.console.drawing import events
from services.admin_api.console.drawing.links import instant_of
from services.admin_api.console.view.audit import AuditFilter, AuditLog
from services.admin_api.console.view.state import Pager
from services.admin_api.console.visit import Visit, signed_in
from shared.bus.requests import NoAnswerError
from shared.contracts.identity import ActorKind
from shared.contracts.problem import RemoteProblem

SHOWN = 50
_PERIODS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}
_KINDS: dict[str, ActorKind] = {kind: kind for kind in get_args(ActorKind)}


async def show_list(visit: Visit) -> Response:
    names = ("type", "subject", "actor_kind", "actor_id", "within", "since", "until")
    shown = AuditFilter(**{name: visit.query(name)[:300] for name in names})
    cursor = visit.query("cursor")
    frame = visit.frame.at("audit", twin=_twin(shown))
    try:
        since, until = _times(shown, visit.frame.now)
        found = await list_entries(
            visit.ask,
            subject=shown.subject or None,
            type_=shown.type or None,
            actor_kind=_KINDS.get(shown.actor_kind),
            actor_id=shown.actor_id or None,
            since=since,
            until=until,
            limit=SHOWN,
            cursor=cursor or None,
        )
    except _BadTime as error:
        return visit.html("audit/list.html", AuditLog((), shown, problem=str(error)), frame, status=422)
    except NoAnswerError:
        return visit.html("audit/list.html", AuditLog(None, shown), frame)
    except RemoteProblem as refused:
        return visit.html("audit/list.html", AuditLog((), shown, problem=refused.detail), frame, status=refused.status)
    entries = tuple(events.entry(view) for view in found.items)
    pager = Pager(
        shown=len(entries),
        older=paths.address(paths.AUDIT, {**shown.query(), "cursor": found.next_cursor}) if found.next_cursor else None,
        newest=paths.address(paths.AUDIT, shown.query()) if cursor else None,
    )
    return visit.html("audit/list.html", AuditLog(entries, shown, pager), frame)


async def show(visit: Visit) -> Response:
    try:
        event_id = UUID(visit.request.path_params["event_id"])
    except ValueError:
        raise NoSuchPath("No entry has this id; an entry's id is the event's, as its page shows it.") from None
    found = await show_entry(visit.ask, event_id)
    frame = visit.frame.at("audit", twin=f"/api/v1/audit/entries/{event_id}")
    return visit.html("audit/show.html", events.entry(found), frame)


class _BadTime(Exception):  # noqa: N818 - what a person typed, not a fault
    pass


def _times(shown: AuditFilter, now: datetime) -> tuple[datetime | None, datetime | None]:
    """The bounds in the address; exact times replace a period."""
    since, until = _time(shown.since), _time(shown.until)
    if since is None and until is None and shown.within in _PERIODS:
        since = now - _PERIODS[shown.within]
    return since, until


def _time(field: str) -> datetime | None:
    if not field:
        return None
    at = instant_of(field)
    if at is None:
        raise _BadTime(f"{field!r} is no date and time. It looks like 2026-05-01T09:30.")
    return at.astimezone(UTC)


def _twin(shown: AuditFilter) -> str:
    """The same entries as JSON. A period there is the time it began, which this page does not repeat."""
    query = {name: text for name, text in shown.query().items() if name not in ("within", "since", "until")}
    times = {name: f"{text}Z" if len(text) > 16 else f"{text}:00Z" for name, text in shown.query().items()
             if name in ("since", "until") and text}  # fmt: skip
    return paths.address("/api/v1/audit/entries", {**query, **times})


routes = [
    Route(paths.AUDIT, signed_in(show_list), methods=["GET"]),
    Route(f"{paths.AUDIT}/{{event_id}}", signed_in(show), methods=["GET"]),
]
