from datetime import datetime

from sqlalchemy.dialects.postgresql import insert

from services.audit.tables import entry
from shared.contracts.event import Envelope
from shared.database.engine import Write


async def append(tx: Write, envelope: Envelope, body: bytes, *, known: bool, at: datetime) -> None:
    """Write an entry. The inbox has seen to it that the event is new; the constraint on its id is the second lock."""
    statement = insert(entry).values(
        event_id=envelope.id,
        type=envelope.type,
        source=envelope.source,
        subject=envelope.subject,
        subject_version=envelope.subjectversion,
        time=envelope.time,
        recorded_at=at,
        actor_kind=envelope.actorkind,
        actor_id=envelope.actorid,
        correlation_id=envelope.correlationid,
        causation_id=envelope.causationid,
        data_schema=envelope.dataschema,
        known=known,
        body=body,
    )
    await tx.execute(statement.on_conflict_do_nothing(index_elements=[entry.c.event_id]))
