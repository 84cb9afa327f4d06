"""All SQL of the API itself: what each idempotency key gave."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.admin_api.tables import metadata
from shared.database.engine import Write

_results = metadata.tables["admin_api.request_result"]


@dataclass(frozen=True, slots=True)
class Kept:
    fingerprint: bytes
    reply: str


async def claim(tx: Write, key: str, *, name: str, fingerprint: bytes) -> bool:
    """Whether the key is new. The same key in another transaction makes this wait until that one has ended."""
    claimed = await tx.execute(
        insert(_results)
        .values(key=key, name=name, fingerprint=fingerprint)
        .on_conflict_do_nothing()
        .returning(_results.c.key)
    )
    return claimed.first() is not None


async def kept(tx: Write, key: str) -> Kept:
    row = (await tx.execute(sa.select(_results.c.fingerprint, _results.c.reply).where(_results.c.key == key))).one()
    return Kept(bytes(row.fingerprint), row.reply)


async def keep(tx: Write, key: str, reply: str) -> None:
    await tx.execute(_results.update().where(_results.c.key == key).values(reply=reply))
