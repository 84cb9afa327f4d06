"""What sync and preauth answer about runs, held sessions, chargers and kiosks, for the stubs."""

from datetime import timedelta
from typing import Any

from shared.contracts.requests.preauth import ChargerView, KioskView
from shared.contracts.requests.sync_work import HeldClass, HeldView, ReconcileRow, RunCounters, RunView
from tests.unit.services.admin_api.diagnosis import cases
from tests.unit.services.admin_api.diagnosis.cases import AN_ID, NOW


def run(**fields: Any) -> RunView:  # noqa: ANN401 - any field
    plain: dict[str, Any] = {
        "run_id": AN_ID,
        "trigger": "operator",
        "requested_by": "m",
        "state": "finished",
        "segments": ["cards", "new"],
        "segment": None,
        "requested_at": NOW,
        "started_at": NOW,
        "finished_at": NOW + timedelta(seconds=3),
        "cursor_before": 40,
        "cursor_after": 42,
        "counters": RunCounters(seen=2, billed=1, held=1),
        "done": 2,
        "expected": 2,
    }
    return RunView.model_validate(plain | fields)


def held(**fields: Any) -> HeldView:  # noqa: ANN401
    plain: dict[str, Any] = {
        "session": cases.session(billing={"state": "held", "reason": "card_unlinked"}),
        "reason": "card_unlinked",
        "explanation": "The card was linked to nobody when the session began.",
        "remedy": "Link the card from an earlier date, or release the session.",
        "held_at": NOW,
        "energy_wh": 12_400,
        "amount_cents": 372,
        "currency": "EUR",
    }
    return HeldView.model_validate(plain | fields)


def held_class(**fields: Any) -> HeldClass:  # noqa: ANN401
    plain: dict[str, Any] = {
        "reason": "card_unlinked",
        "remedy": "Link the card from an earlier date, or release the session.",
        "count": 3,
        "energy_wh": 21_400,
        "amounts": [{"currency": "EUR", "cents": 642}],
        "oldest_at": NOW,
    }
    return HeldClass.model_validate(plain | fields)


def row(**fields: Any) -> ReconcileRow:  # noqa: ANN401
    plain: dict[str, Any] = {
        "external_subscription_id": "sub_fleet",
        "external_customer_id": "ada",
        "period_from": NOW - timedelta(days=20),
        "period_to": NOW + timedelta(days=10),
        "steve_wh": 12_400,
        "ledger_wh": 12_400,
        "sent_wh": 12_400,
        "counted_wh": 12_400,
        "held_wh": 0,
        "equal": True,
    }
    return ReconcileRow.model_validate(plain | fields)


def charger(**fields: Any) -> ChargerView:  # noqa: ANN401
    plain: dict[str, Any] = {
        "charge_box_id": "CP-7",
        "via_gateway": True,
        "connected": True,
        "connected_as_of": NOW,
        "connected_at": NOW - timedelta(hours=3),
        "disconnected_at": None,
        "close_code": None,
        "subprotocol": "ocpp1.6",
        "first_seen_at": NOW - timedelta(days=9),
        "last_seen_at": NOW - timedelta(seconds=4),
        "last_heartbeat_at": NOW - timedelta(seconds=40),
        "boot_at": NOW - timedelta(days=1),
        "registration": "Accepted",
        "vendor": "ABB",
        "model": "Terra",
        "serial_number": "7",
        "firmware_version": "1.2",
        "firmware_status": None,
        "readiness": {"ready": "yes", "reason": "Authorize is asked for each tap."},
        "honours_override": "unknown",
        "connectors": [connector()],
        "open_sessions": [],
    }
    return ChargerView.model_validate(plain | fields)


def connector(**state: Any) -> dict[str, Any]:  # noqa: ANN401
    plain = {"status": "Available", "error_code": "NoError"}
    return {
        "connector_id": 1,
        "state": plain | state,
        "reported_at": NOW - timedelta(minutes=5),
        "seen_at": NOW - timedelta(minutes=5),
    }


def kiosk(**fields: Any) -> KioskView:  # noqa: ANN401
    plain: dict[str, Any] = {
        "kiosk_id": AN_ID,
        "name": "Hall 2",
        "charge_box_ids": ["CP-7", "CP-8"],
        "state": "waiting",
        "created_at": NOW,
        "created_by": "admin",
        "enrolled_at": None,
        "seen_at": None,
        "revoked_at": None,
    }
    return KioskView.model_validate(plain | fields)
