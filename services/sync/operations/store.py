from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.sync.metadata import SCHEMA
from services.sync.operations.tables import operation
from shared.database.engine import Read, Write


async def lock_charger(tx: Write, charge_box_id: str) -> None:
    """Until the transaction ends, nobody else looks whether anything runs at this charger, to begin it."""
    name = f"{SCHEMA}.operation.{charge_box_id}"
    await tx.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": name})


async def begin(
    tx: Write,
    *,
    operation_id: UUID,
    charge_box_id: str,
    name: str,
    parameters: Mapping[str, Any],
    by: str,
    at: datetime,
) -> None:
    await tx.execute(
        sa.insert(operation).values(
            operation_id=operation_id,
            charge_box_id=charge_box_id,
            operation=name,
            parameters=parameters,
            requested_by=by,
            requested_at=at,
        )
    )


async def finish(
    tx: Write, operation_id: UUID, *, outcome: str, response: Mapping[str, Any], problem: str | None, at: datetime
) -> bool:
    """Record the outcome, once; False where one is recorded already."""
    statement = (
        sa.update(operation)
        .where(operation.c.operation_id == operation_id, operation.c.outcome.is_(None))
        .values(outcome=outcome, response=response, problem=problem, answered_at=at)
    )
    return (await tx.execute(statement)).rowcount == 1


async def running(tx: Read, charge_box_id: str, name: str, parameters: Mapping[str, Any]) -> datetime | None:
    """Since when the same operation runs, if it does."""
    statement = sa.select(sa.func.min(operation.c.requested_at)).where(
        operation.c.charge_box_id == charge_box_id,
        operation.c.operation == name,
        operation.c.outcome.is_(None),
        operation.c.parameters == sa.cast(parameters, operation.c.parameters.type),
    )
    since: datetime | None = (await tx.execute(statement)).scalar_one()
    return since


async def abandoned(tx: Read, *, before: datetime) -> list[sa.Row[Any]]:
    statement = sa.select(operation).where(operation.c.outcome.is_(None), operation.c.requested_at < before)
    return list((await tx.execute(statement)).all())
