"""Evidence for tests: a card with which everything is well, to be spoilt one piece at a time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.admin_api.answers import Answered, Silent
from services.admin_api.diagnosis.model import Evidence, SteveNow
from shared.contracts.identity import IdTag
from shared.contracts.requests.audit import EntryView
from shared.contracts.requests.preauth import GapView, PairingView, TapView
from shared.contracts.requests.sync import (
    Billing,
    CardView,
    LinkView,
    SessionView,
    SteveCard,
    SubscriptionView,
)

NOW = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
CARD = IdTag("04A1B2C3D4")
AN_ID = UUID("01890000-0000-7000-8000-000000000001")


def ago(**how_long: float) -> datetime:
    return NOW - timedelta(**how_long)


def tag(**fields: Any) -> SteveCard:  # noqa: ANN401 - any field
    plain: dict[str, Any] = {
        "ocpp_tag_pk": 7,
        "id_tag": CARD,
        "parent_id_tag": None,
        "max_active_transaction_count": 1,
        "active_transaction_count": 0,
        "in_transaction": False,
        "blocked": False,
        "expiry": None,
        "note": None,
    }
    return SteveCard.model_validate(plain | fields)


def blocked_tag(**fields: Any) -> SteveCard:  # noqa: ANN401
    return tag(blocked=True, max_active_transaction_count=0, **fields)


def link(**fields: Any) -> LinkView:  # noqa: ANN401
    plain: dict[str, Any] = {
        "external_customer_id": "ada",
        "external_subscription_id": "sub_fleet",
        "valid_from": ago(days=30),
        "valid_to": None,
        "linked_by": "operator m",
    }
    return LinkView.model_validate(plain | fields)


def known(**fields: Any) -> CardView:  # noqa: ANN401
    plain: dict[str, Any] = {
        "id_tag": CARD,
        "id_tag_as_sent": None,
        "display_name": "Ada",
        "card_type": "ev_card",
        "active": True,
        "steve": tag(),
        "mirrored_at": ago(minutes=5),
        "link": link(),
        "children": [],
    }
    return CardView.model_validate(plain | fields)


def subscription(**fields: Any) -> SubscriptionView:  # noqa: ANN401
    plain: dict[str, Any] = {
        "external_subscription_id": "sub_fleet",
        "external_customer_id": "ada",
        "status": "active",
        "plan_code": "fleet",
        "name": None,
        "started_at": ago(days=60),
        "ending_at": None,
    }
    return SubscriptionView.model_validate(plain | fields)


def session(**fields: Any) -> SessionView:  # noqa: ANN401
    plain: dict[str, Any] = {
        "session": "main:42",
        "charge_box_id": "CP-7",
        "connector_id": 1,
        "id_tag": CARD,
        "started_at": ago(minutes=59),
        "stopped_at": ago(minutes=10),
        "start_wh": 0,
        "stop_wh": 12_400,
        "energy_wh": 12_400,
        "stop_reason": "Local",
        "billing": Billing(state="counted"),
    }
    return SessionView.model_validate(plain | fields)


def tap(**fields: Any) -> TapView:  # noqa: ANN401
    plain: dict[str, Any] = {
        "tap_id": AN_ID,
        "tapped_at": ago(hours=1),
        "charge_box_id": "CP-7",
        "connector_id": 1,
        "id_tag": CARD,
        "id_tag_as_sent": None,
        "kind": "authorize",
        "decision": "pass",
        "reason": "nothing_armed",
        "told": "passed",
        "told_at": ago(hours=1),
        "in_time": True,
        "duration_us": 900,
        "via": "hook",
        "pairing_id": None,
    }
    return TapView.model_validate(plain | fields)


def intercepted_tap(**fields: Any) -> TapView:  # noqa: ANN401
    return tap(**({"decision": "intercept", "reason": "matched", "told": "blocked", "pairing_id": AN_ID} | fields))


def gap(*, minutes: float) -> GapView:
    """Three taps lost within two minutes, the last of them so long ago."""
    return GapView(first_at=ago(minutes=minutes + 2), last_at=ago(minutes=minutes), taps=3, why="the spool was full")


def pairing(**fields: Any) -> PairingView:  # noqa: ANN401
    plain: dict[str, Any] = {
        "pairing_id": AN_ID,
        "charge_box_id": "CP-7",
        "connector_id": None,
        "purpose": "login",
        "state": "armed",
        "code": "7431",
        "armed_at": ago(seconds=20),
        "armed_by": "kiosk 1",
        "expires_at": NOW + timedelta(seconds=70),
    }
    return PairingView.model_validate(plain | fields)


def entry(type_: str, at: datetime, data: dict[str, Any], actor: tuple[str, str] = ("operator", "m")) -> EntryView:
    return EntryView.model_validate(
        {
            "position": 1,
            "event_id": AN_ID,
            "type": type_,
            "source": "expressync/sync",
            "subject": f"card/{CARD}",
            "subject_version": 1,
            "time": at,
            "recorded_at": at,
            "actor_kind": actor[0],
            "actor_id": actor[1],
            "correlation_id": AN_ID,
            "causation_id": None,
            "data_schema": f"urn:expressync:{type_}:1",
            "known": True,
            "data": data,
        }
    )


def silence(who: str) -> Silent:
    return Silent(who=who, why="no reply within 4 s", as_of=NOW)


def said(value: Any) -> Any:  # noqa: ANN401 - the value's own type, as the field takes it
    return Answered[Any](value=value, as_of=NOW)


def evidence(**parts: Any) -> Evidence:  # noqa: ANN401
    """All is well: accepted, linked, active, and the last tap became a session that delivered."""
    well = Evidence(
        id_tag=CARD,
        now=NOW,
        known=said(known()),
        steve=said(SteveNow(card=tag())),
        subscription=said(subscription()),
        sessions=said([session()]),
        taps=said([tap()]),
        pairings=said([]),
        changes=said([]),
    )
    return replace(well, **parts)


def in_steve(card: SteveCard | None, parent: SteveCard | None = None) -> Any:  # noqa: ANN401
    return said(SteveNow(card=card, parent=parent))
