"""Taps, sessions and recorded events, from the API's answers to what pages show."""

from services.admin_api import aftermath
from services.admin_api.answers import Part, Silent
from services.admin_api.console.view.audit import Entry
from services.admin_api.console.view.sessions import Billing, BillingState, Session, Sessions
from services.admin_api.console.view.taps import Tap
from shared.contracts.requests.audit import EntryView
from shared.contracts.requests.preauth import TapView
from shared.contracts.requests.sync import SessionView

_BILLING: dict[str, BillingState] = {
    "open": "open",
    "pending": "pending",
    "synced": "synced",
    "counted": "counted",
    "held": "held",
    "ignored": "ignored",
}
_TOLD = {"blocked": "blocked", "passed": "none", "unknown": "unknown", None: "unknown"}


def tap(view: TapView) -> Tap:
    return Tap(
        at=view.tapped_at,
        charge_box_id=view.charge_box_id,
        decision="blocked" if view.decision == "intercept" else "",
        reason=view.reason,
        told=_TOLD[view.told],
        duration_ms=None if view.duration_us is None else view.duration_us // 1000,
        in_time=view.in_time,
        id_tag=view.id_tag,
        aftermath=aftermath.of_tap(view.session, view.session_outcome, view.override_outcome),
    )


def session(view: SessionView) -> Session:
    return Session(
        session=view.session,
        charge_box_id=view.charge_box_id,
        connector_id=view.connector_id,
        start=view.started_at,
        stop=view.stopped_at,
        energy_wh=view.energy_wh,
        billing=Billing(_BILLING.get(view.billing.state, "unknown"), view.billing.at, view.billing.reason or ""),
        stop_reason=view.stop_reason or "",
        id_tag=view.id_tag,
    )


def sessions(part: Part[list[SessionView]]) -> Sessions:
    if isinstance(part, Silent):
        return Sessions(None)
    return Sessions(tuple(session(view) for view in part.value), part.as_of)


def entry(view: EntryView) -> Entry:
    return Entry(
        event_id=str(view.event_id),
        type=view.type,
        subject=view.subject,
        time=view.time,
        actor_kind=view.actor_kind,
        actor_id=view.actor_id,
        source=view.source,
        data=view.data,
        raw=_cloud_event(view),
    )


def _cloud_event(view: EntryView) -> dict[str, object]:
    """The event as it was received (contracts: Events)."""
    return {
        "specversion": "1.0",
        "id": str(view.event_id),
        "type": view.type,
        "source": view.source,
        "subject": view.subject,
        "subjectversion": view.subject_version,
        "time": view.time.isoformat(),
        "dataschema": view.data_schema,
        "actorkind": view.actor_kind,
        "actorid": view.actor_id,
        "correlationid": str(view.correlation_id),
        **({"causationid": str(view.causation_id)} if view.causation_id else {}),
        "data": view.data,
    }
