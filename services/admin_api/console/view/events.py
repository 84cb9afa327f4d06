"""Each event type of the contracts in words, and the kind it is filed under in a timeline."""

from typing import Literal

from services.admin_api.console import format as fmt
from services.admin_api.console.view.state import State

Kind = Literal["taps", "decisions", "changes", "billing", "chargers", "access", "system"]
KIND_WORDS: dict[Kind, str] = {
    "taps": "Taps",
    "decisions": "Decisions",
    "changes": "Changes",
    "billing": "Billing",
    "chargers": "Chargers",
    "access": "Access",
    "system": "System",
}

_N, _A, _W, _O = State.NEUTRAL, State.ATTENTION, State.WRONG, State.OK
EVENTS: dict[str, tuple[str, Kind, State]] = {
    "pairing.armed": ("Pairing armed", "decisions", _N),
    "pairing.cancelled": ("Pairing cancelled", "decisions", _N),
    "pairing.expired": ("Pairing expired", "decisions", _N),
    "scan.intercepted": ("Tap intercepted for a login", "decisions", _A),
    "scan.interception_ignored": ("Interception ignored by the charger", "decisions", _W),
    "scan.login_succeeded": ("Driver logged in by a tap", "decisions", _O),
    "scan.login_refused": ("Login by a tap refused", "decisions", _A),
    "tap.decided": ("Card tapped", "taps", _N),
    "login.new_device": ("First login from a new device", "access", _A),
    "driver.signed_out": ("Driver signed out", "access", _N),
    "card.pin_changed": ("PIN changed", "changes", _N),
    "charger.connected": ("Charger connected", "chargers", _O),
    "charger.disconnected": ("Charger disconnected", "chargers", _A),
    "charger.status_changed": ("Connector status changed", "chargers", _N),
    "charger.readiness_changed": ("Readiness for interception changed", "chargers", _N),
    "charger.session_started": ("Session started at the charger", "chargers", _N),
    "charger.session_stopped": ("Session stopped at the charger", "chargers", _N),
    "charger.qr_rotated": ("QR code rotated", "chargers", _N),
    "kiosk.enrolled": ("Kiosk enrolled", "access", _N),
    "kiosk.revoked": ("Kiosk revoked", "access", _N),
    "interception.rate_unusual": ("Unusually many interceptions", "system", _A),
    "interception.switched": ("Interception switched on or off", "system", _A),
    "card.discovered": ("Card found in SteVe", "changes", _N),
    "card.changed": ("Card changed", "changes", _N),
    "card.blocked": ("Card blocked", "changes", _W),
    "card.unblocked": ("Card unblocked", "changes", _O),
    "card.parent_changed": ("Parent changed", "changes", _N),
    "card.linked": ("Card linked", "changes", _O),
    "card.relinked": ("Card relinked", "changes", _N),
    "card.unlinked": ("Card unlinked", "changes", _A),
    "transaction.started": ("Session started", "billing", _N),
    "transaction.stopped": ("Session stopped", "billing", _N),
    "transaction.synced": ("Session sent to Lago", "billing", _O),
    "transaction.counted": ("Session counted by Lago", "billing", _O),
    "transaction.held": ("Session held", "billing", _A),
    "transaction.released": ("Held session released", "billing", _O),
    "transaction.ignored": ("Held session ignored", "billing", _N),
    "transaction.corrected": ("Session corrected", "billing", _A),
    "sync_run.started": ("Sync run started", "billing", _N),
    "sync_run.finished": ("Sync run finished", "billing", _N),
    "reconcile.mismatch_found": ("SteVe and Lago differ", "billing", _W),
    "charger.operation_requested": ("Charger operation requested", "chargers", _N),
    "charger.operation_finished": ("Charger operation finished", "chargers", _N),
    "webhook.received": ("Webhook received from Lago", "billing", _N),
    "upstream.lost": ("Upstream lost", "system", _W),
    "upstream.recovered": ("Upstream recovered", "system", _O),
    "operator.signed_in": ("Operator signed in", "access", _N),
    "operator.sign_in_refused": ("Operator sign-in refused", "access", _A),
    "operator.created": ("Operator created", "access", _N),
    "operator.changed": ("Operator changed", "access", _N),
    "operator.disabled": ("Operator disabled", "access", _A),
    "api_token.created": ("API token created", "access", _N),
    "api_token.revoked": ("API token revoked", "access", _N),
    "diagnosis.made": ("Card diagnosed", "decisions", _N),
}


def title(event_type: str) -> str:
    """The event in words; one this version does not know keeps its type, spelled out."""
    known = EVENTS.get(event_type)
    return known[0] if known else fmt.sentence(fmt.words(event_type))


def kind(event_type: str) -> Kind:
    known = EVENTS.get(event_type)
    return known[1] if known else "system"


def state(event_type: str) -> State:
    known = EVENTS.get(event_type)
    return known[2] if known else State.NEUTRAL
