"""An entry as Lago is sent it, and as others are told of it and of its session."""

from typing import Any

from services.sync.lago.models import UsageEvent
from services.sync.ledger import rules
from services.sync.ledger.rules import Bill
from services.sync.ledger.store import Entry
from shared.contracts.events.sync import (
    TransactionCorrected,
    TransactionCounted,
    TransactionHeld,
    TransactionIgnored,
    TransactionReleased,
    TransactionSynced,
)
from shared.contracts.identity import session_id


def as_event(one: Entry) -> UsageEvent:
    return rules.usage_event(
        event_id=one.usage_event_id,
        subscription=one.external_subscription_id,
        code=one.code,
        property_name=one.property_name,
        wh=one.wh,
        timestamp=one.timestamp,
        session=one.session,
        charge_box_id=one.charge_box_id,
    )


def synced(one: Entry) -> TransactionSynced:
    return TransactionSynced(**_what(one))


def counted(one: Entry) -> TransactionCounted:
    return TransactionCounted(**_what(one))


def held(row: Any, reason: str, explanation: str, energy_wh: int) -> TransactionHeld:  # noqa: ANN401 - a row of session
    return TransactionHeld(**_whose(row), reason=reason, explanation=explanation, energy_wh=energy_wh)


def ignored(row: Any, energy_wh: int) -> TransactionIgnored:  # noqa: ANN401 - a row of session
    return TransactionIgnored(**_whose(row), reason=row.hold_reason, energy_wh=energy_wh)


def released(row: Any) -> TransactionReleased:  # noqa: ANN401 - a row of session
    return TransactionReleased(**_whose(row), reason=row.hold_reason)


def corrected(row: Any, bill: Bill, seq: int) -> TransactionCorrected:  # noqa: ANN401 - a row of session
    return TransactionCorrected(**_whose(row), seq=seq, before_wh=bill.from_wh, after_wh=bill.to_wh)


def _what(one: Entry) -> dict[str, Any]:
    return {
        "session": one.session,
        "charge_box_id": one.charge_box_id,
        "id_tag": one.id_tag,
        "seq": one.seq,
        "from_wh": one.from_wh,
        "to_wh": one.to_wh,
        "usage_event_id": one.usage_event_id,
        "external_customer_id": one.external_customer_id,
        "external_subscription_id": one.external_subscription_id,
        "final": one.final,
    }


def _whose(row: Any) -> dict[str, str]:  # noqa: ANN401 - a row of session
    return {
        "session": session_id(row.steve_id, row.transaction_pk),
        "charge_box_id": row.charge_box_id,
        "id_tag": row.id_tag,
    }
