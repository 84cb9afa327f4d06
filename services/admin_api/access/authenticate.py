"""Who a request comes from: a browser's cookie, or a token that was sent along."""

from datetime import timedelta
from typing import Final

from services.admin_api.access import opaque, store
from services.admin_api.access.caller import Caller
from services.admin_api.access.problems import BadToken
from services.admin_api.access.rules import Lifetime, SessionKind
from shared.database.engine import Database
from shared.runtime.clock import Clock

# A use is noted this often: idle time and "last used" are minutes, and a write for every request is not.
NOTE_USE_EVERY: Final = timedelta(minutes=1)


class Authenticate:
    def __init__(self, database: Database, lifetime: Lifetime, *, clock: Clock) -> None:
        self._database, self._lifetime, self._clock = database, lifetime, clock

    async def by_cookie(self, token: str) -> Caller | None:
        """The operator of this browser, or None where the session is unknown or over."""
        return await self._session(token, "browser")

    async def by_bearer(self, token: str) -> Caller:
        """The owner of an API token, or of a command-line session.

        :raises BadToken: unknown, expired, revoked, or of an operator who is disabled.
        """
        if token.startswith(f"{opaque.TERMINAL}_"):
            caller = await self._session(token, "cli")
        elif token.startswith(f"{opaque.PROGRAM}_"):
            caller = await self._token(token)
        else:
            caller = None
        if caller is None:
            raise BadToken
        return caller

    async def _session(self, token: str, kind: SessionKind) -> Caller | None:
        token_hash, now = opaque.digest(token), self._clock()
        async with self._database.read() as tx:
            found = await store.get_session(tx, token_hash)
        if found is None or found.kind != kind or found.operator.disabled_at is not None:
            return None
        if self._lifetime.is_over(kind, last_seen_at=found.last_seen_at, expires_at=found.expires_at, now=now):
            return None
        if now - found.last_seen_at >= NOTE_USE_EVERY:
            async with self._database.write() as tx:
                await store.touch_session(tx, token_hash, now)
        return Caller(
            kind="operator",
            name=found.operator.name,
            role=found.operator.role,
            session_hash=token_hash,
            csrf_token=opaque.csrf_token(token) if kind == "browser" else None,
            must_change_password=found.operator.one_time_until is not None,
        )

    async def _token(self, token: str) -> Caller | None:
        now = self._clock()
        async with self._database.read() as tx:
            found = await store.get_token(tx, opaque.digest(token))
        if found is None or found.revoked_at is not None or found.expires_at <= now:
            return None
        if found.last_used_at is None or now - found.last_used_at >= NOTE_USE_EVERY:
            async with self._database.write() as tx:
                await store.touch_token(tx, found.token_id, now)
        return Caller(kind="api_token", name=found.name, role=found.role)
