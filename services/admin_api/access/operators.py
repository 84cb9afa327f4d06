"""Operators: the first one, further ones, their roles, new passwords for those who lost theirs."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from services.admin_api.access import opaque, rules, store
from services.admin_api.access.passwords import Passwords
from services.admin_api.access.problems import BadOperatorName, LastAdmin, NoSuchOperator, OperatorExists
from services.admin_api.access.store import OperatorRow
from shared.bus.outbox import Outbox
from shared.contracts.events.admin_api import OperatorChanged, OperatorCreated, OperatorDisabled, Role
from shared.contracts.identity import Cause
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock

FIRST_OPERATOR: Final = "admin"


@dataclass(frozen=True, slots=True)
class OneTimePassword:
    """Shown once to who made it; the table has only its hash. None: it was shown before."""

    operator: str
    password: str | None
    until: datetime | None


class Operators:
    """`one_time` is how long a one-time password can be used."""

    def __init__(
        self, database: Database, outbox: Outbox, passwords: Passwords, *, one_time: timedelta, clock: Clock
    ) -> None:
        self._database, self._outbox, self._passwords = database, outbox, passwords
        self._one_time, self._clock = one_time, clock

    async def list(self) -> list[OperatorRow]:
        async with self._database.read() as tx:
            return await store.list_operators(tx)

    async def first(self, cause: Cause) -> OneTimePassword | None:
        """Create the first operator; or, while the only one has not chosen a password yet, give it a new one-time
        password. None once somebody has taken possession.

        This is for who can write into the database anyway; it is not reachable over HTTP.
        """
        made = await self._make()
        async with self._database.write() as tx:
            known = await store.lock_operators(tx)
            if not known:
                await self._add(tx, FIRST_OPERATOR, "admin", made, cause)
                return made.told(FIRST_OPERATOR)
            if len(known) == 1 and known[0].one_time_until is not None and known[0].disabled_at is None:
                await self._renew(tx, known[0].name, made, cause)
                return made.told(known[0].name)
        return None

    async def create(self, tx: Write, name: str, role: Role, made: "Made", cause: Cause) -> OneTimePassword:
        """A new operator, who signs in with a one-time password.

        :raises BadOperatorName, OperatorExists: nothing was created.
        """
        name = rules.operator_name(name)
        if not rules.is_operator_name(name):
            raise BadOperatorName(name)
        await self._add(tx, name, role, made, cause)
        return made.told(name)

    async def change(
        self, tx: Write, name: str, cause: Cause, *, role: Role | None = None, enabled: bool | None = None
    ) -> OperatorRow:
        """Give another role, disable or enable. A disabled operator is signed out everywhere.

        :raises NoSuchOperator, LastAdmin: nothing was changed.
        """
        known = await store.lock_operators(tx)
        before = _named(known, name)
        role = role if role is not None and role != before.role else None
        disable = enabled is False and before.disabled_at is None
        enable = enabled is True and before.disabled_at is not None
        if disable or (role is not None and role != "admin"):
            _keep_an_admin(known, before)
        changed: list[Literal["password", "one_time_password", "role", "enabled"]] = []
        if role is not None:
            await store.set_role(tx, name, role)
            changed.append("role")
        if enable:
            await store.set_disabled(tx, name, None)
            changed.append("enabled")
        if changed:
            await self._outbox.add(tx, OperatorChanged(operator=name, changed=changed, role=role), cause)
        if disable:
            await store.set_disabled(tx, name, self._clock())
            await store.end_sessions_of(tx, name)
            await self._outbox.add(tx, OperatorDisabled(operator=name), cause)
        after = await store.get_operator(tx, name)
        return _named([after] if after else [], name)

    async def reset_password(self, tx: Write, name: str, made: "Made", cause: Cause) -> OneTimePassword:
        """A new one-time password for somebody who lost theirs; signs them out everywhere.

        :raises NoSuchOperator: nothing was changed.
        """
        _named(await store.lock_operators(tx), name)
        await self._renew(tx, name, made, cause)
        return made.told(name)

    async def make_one_time_password(self) -> "Made":
        """Made before the transaction, because hashing takes its time."""
        return await self._make()

    async def _make(self) -> "Made":
        password = opaque.one_time_password()
        return Made(password, await self._passwords.hash(password), self._clock() + self._one_time)

    async def _add(self, tx: Write, name: str, role: Role, made: "Made", cause: Cause) -> None:
        row = OperatorRow(
            name=name,
            role=role,
            password_hash=made.hash,
            one_time_until=made.until,
            created_at=self._clock(),
            created_by=cause.actor.id,
            disabled_at=None,
        )
        if not await store.add_operator(tx, row):
            raise OperatorExists(name)
        await self._outbox.add(tx, OperatorCreated(operator=name, role=role), cause)

    async def _renew(self, tx: Write, name: str, made: "Made", cause: Cause) -> None:
        await store.set_password(tx, name, made.hash, one_time_until=made.until)
        await store.end_sessions_of(tx, name)
        await self._outbox.add(tx, OperatorChanged(operator=name, changed=["one_time_password"]), cause)


@dataclass(frozen=True, slots=True, repr=False)
class Made:
    """A one-time password on its way from where it was made to who may see it."""

    password: str
    hash: str
    until: datetime

    def told(self, operator: str) -> OneTimePassword:
        return OneTimePassword(operator, self.password, self.until)


def _named(known: list[OperatorRow], name: str) -> OperatorRow:
    found = next((row for row in known if row.name == name), None)
    if found is None:
        raise NoSuchOperator(name)
    return found


def _keep_an_admin(known: list[OperatorRow], leaving: OperatorRow) -> None:
    others = [row for row in known if row.role == "admin" and row.disabled_at is None and row.name != leaving.name]
    if leaving.role == "admin" and leaving.disabled_at is None and not others:
        raise LastAdmin(leaving.name)
