"""What an answer to an operation means. Pure."""

from typing import Any, Final

from services.sync.steve.models import OperationResult
from services.sync.upstreams.errors import RefusedError, UpstreamError
from shared.contracts.requests.sync import OperationOutcome

# OCPP 1.6, 7: the words of a charger that does what it was asked for.
_ACCEPTED: Final = frozenset({"Accepted", "Unlocked", "Scheduled", "RebootRequired"})

Outcome = tuple[OperationOutcome, dict[str, Any], str | None]


def outcome_of(result: OperationResult, *, quoting: bool) -> Outcome:
    """The outcome, what the charger answered, and what is wrong.

    :param quoting: False: others' words are left out, because they may quote a secret.
    """
    if result.success_responses:
        response = result.success_responses[0].response
        if isinstance(response, dict) and "status" not in response:
            return "accepted", response, None
        status = response.get("status") if isinstance(response, dict) else response
        told = response if isinstance(response, dict) else {"status": response}
        if status in _ACCEPTED:
            return "accepted", told, None
        return "rejected", told, f"The charger answered {status}."
    if result.error_responses:
        error = result.error_responses[0]
        words = f"{error.error_code} {(quoting and error.error_description) or ''}".strip()
        return "failed", {}, f"The charger answered with an error: {words}."
    if result.exceptions:
        words = f": {result.exceptions[0].exception_message}" if quoting else ""
        return "failed", {}, f"SteVe could not call the charger{words}."
    return "unknown", {}, "The charger has not answered SteVe in time; it may still do it."


def outcome_of_error(error: UpstreamError) -> Outcome:
    if isinstance(error, RefusedError):
        if "not connected" in str(error.body.get("message", "")).lower():
            return "not_connected", {}, "The charger is not connected to SteVe."
        return "failed", {}, f"SteVe {error.explanation}."
    if error.may_have_been_done:
        return "unknown", {}, f"SteVe {error.explanation}; it may have been done."
    return "failed", {}, f"SteVe {error.explanation}; nothing was done."
