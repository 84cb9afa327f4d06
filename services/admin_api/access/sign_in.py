"""Coming in and going out: names and passwords, sessions, and one's own password."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from services.admin_api.access import opaque, rules, store
from services.admin_api.access.caller import Caller
from services.admin_api.access.passwords import Passwords
from services.admin_api.access.problems import (
    NotSignedIn,
    OneTimePasswordExpired,
    OperatorIsDisabled,
    PasswordChangeRequired,
    SignInRefused,
    TooManyAttempts,
    WeakPassword,
    WrongPassword,
)
from services.admin_api.access.rules import Bucket, Lifetime, SessionKind
from services.admin_api.access.store import OperatorRow
from shared.bus.outbox import Outbox
from shared.contracts.event import Event
from shared.contracts.events.admin_api import NOBODY, OperatorChanged, OperatorSignedIn, OperatorSignInRefused
from shared.contracts.identity import Actor, Cause
from shared.contracts.problem import Problem
from shared.database.engine import Database
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

# Time to choose one's own password; a session that can do nothing else should not lie around.
CHOOSE_PASSWORD_WITHIN: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """`token` is the session's secret, to be given to its owner and kept nowhere else."""

    token: str
    caller: Caller
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _Tried:
    """An attempt that was let through, and which buckets it closed for those after it."""

    buckets: dict[str, Bucket]
    closed: bool


class SignIn:
    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        passwords: Passwords,
        lifetime: Lifetime,
        *,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._database, self._outbox, self._passwords, self._lifetime = database, outbox, passwords, lifetime
        self._clock, self._new_id = clock, new_id

    async def sign_in(
        self,
        name: str,
        password: str,
        *,
        source: str,
        kind: SessionKind,
        new_password: str | None = None,
        previous: str | None = None,
    ) -> SignedIn:
        """Exchange a name and a password for a session.

        :param source: the address it comes from.
        :param new_password: replaces the password; a command-line session needs it with a one-time password.
        :param previous: the browser's old session, which ends.
        :raises TooManyAttempts: before the password is looked at.
        :raises SignInRefused: the name or the password is wrong, and it does not say which.
        :raises OperatorIsDisabled, OneTimePasswordExpired, PasswordChangeRequired, WeakPassword: to who knew it.
        """
        name = rules.operator_name(name)
        names = self._bucket_names(name, source)
        tried = await self._count(names)
        found = await self._find(name)
        if not await self._passwords.verify(found.password_hash if found else None, password) or found is None:
            await self._refuse(found, "too_many_attempts" if tried.closed else "unknown_or_wrong")
            raise SignInRefused
        await self._refuse_if_useless(found)
        one_time = found.one_time_until is not None
        if new_password is not None:
            self._check_new(new_password, found.name, password if one_time else None)
        elif one_time and kind == "cli":
            raise PasswordChangeRequired
        new_hash = await self._hash_for(found, password, new_password)
        must_change = one_time and new_password is None
        return await self._open_session(
            found, kind, must_change=must_change, new_hash=new_hash, chosen=new_password is not None,
            previous=previous, buckets=names,
        )  # fmt: skip

    async def change_password(self, caller: Caller, current: str, new_password: str, *, source: str) -> SignedIn:
        """Choose another password. Every session of the operator ends, and this browser gets a new one.

        :param current: not looked at where the caller has just signed in with a one-time password.
        :raises WrongPassword, WeakPassword, TooManyAttempts: nothing was changed.
        """
        names = self._bucket_names(caller.name, source)
        found = await self._find(caller.name)
        if found is None or caller.kind != "operator" or caller.session_hash is None:
            raise NotSignedIn
        if not caller.must_change_password:
            await self._count(names)
            if not await self._passwords.verify(found.password_hash, current):
                raise WrongPassword
        elif await self._passwords.verify(found.password_hash, new_password):
            raise WeakPassword("The new password is the one-time one; choose another.")
        self._check_new(new_password, found.name, None)
        new_hash = await self._passwords.hash(new_password)
        return await self._open_session(
            found, "browser", must_change=False, new_hash=new_hash, chosen=True, previous=None, buckets=names,
            signed_in=False,
        )  # fmt: skip

    async def sign_out(self, caller: Caller) -> None:
        """End this session; an API token has none to end."""
        if caller.session_hash is None:
            return
        async with self._database.write() as tx:
            await store.end_session(tx, caller.session_hash)

    async def forget(self) -> None:
        """Drop sessions that are over and attempts nobody counts any more; periodic."""
        now = self._clock()
        async with self._database.write() as tx:
            await store.forget(tx, sessions_before=now, attempts_before=now - timedelta(days=1))

    @staticmethod
    def _bucket_names(name: str, source: str) -> dict[str, str]:
        # Digests: what was typed as a name may be a password, and an address is personal.
        where = rules.source_of(source)
        keys = {"pair": f"{name}\n{where}", "source": where, "name": name}
        return {
            kind: f"{kind}/{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()}" for kind, key in keys.items()
        }

    async def _count(self, names: dict[str, str]) -> _Tried:
        now = self._clock()
        async with self._database.write() as tx:
            found = await store.lock_buckets(tx, list(names.values()), now)
            wait = max((rules.locked_for(bucket, now) for bucket in found.values() if bucket), default=timedelta())
            if wait:
                raise TooManyAttempts(wait)
            counted = {
                bucket: rules.count_attempt(found.get(bucket), rules.LIMITS[kind], now)
                for kind, bucket in names.items()
            }
            await store.save_buckets(tx, counted)
        return _Tried(counted, closed=any(bucket.locked_until is not None for bucket in counted.values()))

    async def _find(self, name: str) -> OperatorRow | None:
        if not rules.is_operator_name(name):
            return None
        async with self._database.read() as tx:
            return await store.get_operator(tx, name)

    async def _refuse_if_useless(self, found: OperatorRow) -> None:
        if found.disabled_at is not None:
            await self._refuse(found, "disabled")
            raise OperatorIsDisabled(found.name)
        if found.one_time_until is not None and found.one_time_until <= self._clock():
            await self._refuse(found, "one_time_password_expired")
            raise OneTimePasswordExpired(found.name)

    async def _refuse(self, found: OperatorRow | None, reason: str) -> None:
        name = found.name if found else NOBODY
        log.info("A sign-in was refused.", action="access.sign_in_refused", operator=name, reason=reason)
        event = OperatorSignInRefused.model_validate({"operator": name, "reason": reason})
        cause = Cause(actor=Actor(kind="system", id="admin_api"), correlation_id=self._new_id())
        async with self._database.write() as tx:
            await self._outbox.add(tx, event, cause)

    @staticmethod
    def _check_new(new_password: str, name: str, one_time: str | None) -> None:
        fault = rules.password_fault(new_password, name=name, one_time=one_time)
        if fault is not None:
            raise WeakPassword(fault)

    async def _hash_for(self, found: OperatorRow, password: str, new_password: str | None) -> str | None:
        if new_password is not None:
            return await self._passwords.hash(new_password)
        # The parameters were raised since: this is the only moment the password is at hand.
        return await self._passwords.hash(password) if self._passwords.outdated(found.password_hash) else None

    async def _open_session(
        self,
        found: OperatorRow,
        kind: SessionKind,
        *,
        must_change: bool,
        new_hash: str | None,
        chosen: bool,
        previous: str | None,
        buckets: dict[str, str],
        signed_in: bool = True,
    ) -> SignedIn:
        now, token = self._clock(), opaque.session_token()
        token_hash = opaque.digest(token)
        expires_at = self._lifetime.expires_at(kind, now)
        if must_change:
            expires_at = min(expires_at, now + CHOOSE_PASSWORD_WITHIN)
        caller = Caller(
            kind="operator",
            name=found.name,
            role=found.role,
            session_hash=token_hash,
            csrf_token=opaque.csrf_token(token) if kind == "browser" else None,
            must_change_password=must_change,
        )
        async with self._database.write() as tx:
            # Between looking at the password and now it may have been changed, or the operator disabled.
            current = await store.get_operator(tx, found.name, lock=True)
            if current is None or current != replace(found, role=current.role):
                raise _changed_meanwhile(signed_in=signed_in)
            caller = replace(caller, role=current.role)
            if new_hash is not None:
                one_time_until = None if chosen else found.one_time_until
                await store.set_password(tx, found.name, new_hash, one_time_until=one_time_until)
            if chosen:
                await store.end_sessions_of(tx, found.name)
            if previous is not None:
                await store.end_session(tx, opaque.digest(previous))
            await store.empty_buckets(tx, [buckets["pair"], buckets["name"]])
            await store.add_session(
                tx, token_hash=token_hash, operator_name=found.name, kind=kind, now=now, expires_at=expires_at
            )
            cause = Cause(actor=caller.actor, correlation_id=self._new_id())
            await self._outbox.add_all(tx, self._told(found, kind, chosen=chosen, signed_in=signed_in), cause)
        return SignedIn(token, caller, expires_at)

    @staticmethod
    def _told(found: OperatorRow, kind: SessionKind, *, chosen: bool, signed_in: bool) -> Sequence[Event]:
        events: list[Event] = []
        if signed_in:
            method = "password" if found.one_time_until is None else "one_time_password"
            events.append(OperatorSignedIn.model_validate({"operator": found.name, "method": method, "kind": kind}))
        if chosen:
            events.append(OperatorChanged(operator=found.name, changed=["password"]))
        return events


def _changed_meanwhile(*, signed_in: bool) -> Problem:
    return SignInRefused() if signed_in else NotSignedIn()
