"""An entry as Lago is sent it, and as others are told of it."""

from services.sync.lago.models import UsageEvent
from services.sync.ledger import rules
from services.sync.ledger.store import Entry
from shared.contracts.events.sync import TransactionSynced


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
    return TransactionSynced(
        session=one.session,
        charge_box_id=one.charge_box_id,
        id_tag=one.id_tag,
        seq=one.seq,
        from_wh=one.from_wh,
        to_wh=one.to_wh,
        usage_event_id=one.usage_event_id,
        external_customer_id=one.external_customer_id,
        external_subscription_id=one.external_subscription_id,
        final=one.final,
    )
