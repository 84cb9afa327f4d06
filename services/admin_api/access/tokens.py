"""API tokens: for programs, with a role and an end, shown once."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from services.admin_api.access import opaque, store
from services.admin_api.access.problems import NoSuchToken, TokenNameTaken
from services.admin_api.access.store import TokenRow
from shared.bus.outbox import Outbox
from shared.contracts.events.admin_api import ApiTokenCreated, ApiTokenRevoked, Role
from shared.contracts.identity import Cause
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock, NewId

LONGEST_DAYS: Final = 366


@dataclass(frozen=True, slots=True, repr=False)
class NewToken:
    row: TokenRow
    token: str


class Tokens:
    def __init__(self, database: Database, outbox: Outbox, *, clock: Clock, new_id: NewId) -> None:
        self._database, self._outbox, self._clock, self._new_id = database, outbox, clock, new_id

    async def list(self, *, limit: int, after: UUID | None) -> list[TokenRow]:
        async with self._database.read() as tx:
            return await store.list_tokens(tx, limit=limit, after=after)

    async def create(self, tx: Write, *, name: str, role: Role, days: int, cause: Cause) -> NewToken:
        """:raises TokenNameTaken: while a token of that name is not revoked."""
        token, prefix = opaque.api_token()
        now = self._clock()
        row = TokenRow(
            token_id=self._new_id(),
            name=name,
            prefix=prefix,
            role=role,
            created_at=now,
            created_by=cause.actor.id,
            expires_at=now + timedelta(days=days),
            last_used_at=None,
            revoked_at=None,
            revoked_by=None,
        )
        if not await store.add_token(tx, row, opaque.digest(token)):
            raise TokenNameTaken(name)
        event = ApiTokenCreated(token_id=str(row.token_id), name=name, role=role, expires_at=row.expires_at)
        await self._outbox.add(tx, event, cause)
        return NewToken(row, token)

    async def revoke(self, tx: Write, token_id: UUID, cause: Cause) -> TokenRow:
        """Revoking one that is revoked already changes nothing.

        :raises NoSuchToken: there is none of that id.
        """
        found = await store.lock_token(tx, token_id)
        if found is None:
            raise NoSuchToken(str(token_id))
        if found.revoked_at is None:
            await store.revoke_token(tx, token_id, at=self._clock(), by=cause.actor.id)
            await self._outbox.add(tx, ApiTokenRevoked(token_id=str(token_id), name=found.name), cause)
        after = await store.lock_token(tx, token_id)
        return after or found
