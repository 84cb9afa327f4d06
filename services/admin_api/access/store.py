"""All SQL of the access room."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.admin_api.access.rules import Bucket, SessionKind
from services.admin_api.tables import api_token, operator, session, sign_in_guard
from shared.contracts.events.admin_api import Role
from shared.database.engine import Read, Write


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """`one_time_until` is set while the password is a one-time one."""

    name: str
    role: Role
    password_hash: str
    one_time_until: datetime | None
    created_at: datetime
    created_by: str
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class SessionRow:
    operator: OperatorRow
    kind: SessionKind
    last_seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class TokenRow:
    token_id: UUID
    name: str
    prefix: str
    role: Role
    created_at: datetime
    created_by: str
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None


_TOKEN_COLUMNS = [column for column in api_token.c if column.name != "token_hash"]


def _operator(row: sa.Row[Any]) -> OperatorRow:
    return OperatorRow(**{column.name: getattr(row, column.name) for column in operator.c})


async def get_operator(tx: Read, name: str, *, lock: bool = False) -> OperatorRow | None:
    statement = sa.select(operator).where(operator.c.name == name)
    row = (await tx.execute(statement.with_for_update() if lock else statement)).first()
    return _operator(row) if row is not None else None


async def list_operators(tx: Read) -> list[OperatorRow]:
    return [_operator(row) for row in await tx.execute(sa.select(operator).order_by(operator.c.name))]


async def lock_operators(tx: Write) -> list[OperatorRow]:
    """All operators, held until the transaction ends: for rules that concern them together."""
    await tx.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('admin_api.operators'))"))
    statement = sa.select(operator).order_by(operator.c.name).with_for_update()
    return [_operator(row) for row in await tx.execute(statement)]


async def add_operator(tx: Write, row: OperatorRow) -> bool:
    """False where the name is taken."""
    values = {column.name: getattr(row, column.name) for column in operator.c}
    added = await tx.execute(
        insert(operator).values(values).on_conflict_do_nothing().returning(operator.c.name),
    )
    return added.first() is not None


async def set_password(tx: Write, name: str, password_hash: str, *, one_time_until: datetime | None) -> None:
    await tx.execute(
        operator.update()
        .where(operator.c.name == name)
        .values(password_hash=password_hash, one_time_until=one_time_until)
    )


async def set_role(tx: Write, name: str, role: Role) -> None:
    await tx.execute(operator.update().where(operator.c.name == name).values(role=role))


async def set_disabled(tx: Write, name: str, at: datetime | None) -> None:
    await tx.execute(operator.update().where(operator.c.name == name).values(disabled_at=at))


async def add_session(
    tx: Write, *, token_hash: bytes, operator_name: str, kind: SessionKind, now: datetime, expires_at: datetime
) -> None:
    await tx.execute(
        session.insert().values(
            token_hash=token_hash,
            operator=operator_name,
            kind=kind,
            created_at=now,
            last_seen_at=now,
            expires_at=expires_at,
        )
    )


async def get_session(tx: Read, token_hash: bytes) -> SessionRow | None:
    row = (
        await tx.execute(
            sa.select(operator, session.c.kind, session.c.last_seen_at, session.c.expires_at)
            .join_from(session, operator, session.c.operator == operator.c.name)
            .where(session.c.token_hash == token_hash)
        )
    ).first()
    return SessionRow(_operator(row), row.kind, row.last_seen_at, row.expires_at) if row is not None else None


async def touch_session(tx: Write, token_hash: bytes, at: datetime) -> None:
    await tx.execute(session.update().where(session.c.token_hash == token_hash).values(last_seen_at=at))


async def end_session(tx: Write, token_hash: bytes) -> None:
    await tx.execute(session.delete().where(session.c.token_hash == token_hash))


async def end_sessions_of(tx: Write, operator_name: str) -> None:
    await tx.execute(session.delete().where(session.c.operator == operator_name))


async def add_token(tx: Write, row: TokenRow, token_hash: bytes) -> bool:
    """False where a token of that name is in use."""
    values = {column.name: getattr(row, column.name) for column in _TOKEN_COLUMNS}
    statement = (
        insert(api_token)
        .values(**values, token_hash=token_hash)
        .on_conflict_do_nothing(index_elements=[api_token.c.name], index_where=api_token.c.revoked_at.is_(None))
        .returning(api_token.c.token_id)
    )
    return (await tx.execute(statement)).first() is not None


async def get_token(tx: Read, token_hash: bytes) -> TokenRow | None:
    statement = sa.select(*_TOKEN_COLUMNS).where(api_token.c.token_hash == token_hash)
    row = (await tx.execute(statement)).first()
    return TokenRow(**row._asdict()) if row is not None else None


async def list_tokens(tx: Read, *, limit: int, after: UUID | None) -> list[TokenRow]:
    """Newest first; `after` is the last one of the page before (ids sort by their time of birth)."""
    statement = sa.select(*_TOKEN_COLUMNS).order_by(api_token.c.token_id.desc()).limit(limit)
    if after is not None:
        statement = statement.where(api_token.c.token_id < after)
    return [TokenRow(**row._asdict()) for row in await tx.execute(statement)]


async def lock_token(tx: Write, token_id: UUID) -> TokenRow | None:
    statement = sa.select(*_TOKEN_COLUMNS).where(api_token.c.token_id == token_id).with_for_update()
    row = (await tx.execute(statement)).first()
    return TokenRow(**row._asdict()) if row is not None else None


async def revoke_token(tx: Write, token_id: UUID, *, at: datetime, by: str) -> None:
    await tx.execute(
        api_token.update().where(api_token.c.token_id == token_id).values(revoked_at=at, revoked_by=by),
    )


async def touch_token(tx: Write, token_id: UUID, at: datetime) -> None:
    await tx.execute(api_token.update().where(api_token.c.token_id == token_id).values(last_used_at=at))


async def lock_buckets(tx: Write, names: Sequence[str], now: datetime) -> dict[str, Bucket | None]:
    """Those buckets, held until the transaction ends; in one order, so that two sign-ins never wait for each other."""
    ordered = sorted(names)
    fresh = [{"bucket": name, "attempts": 0, "last_attempt_at": now} for name in ordered]
    await tx.execute(insert(sign_in_guard).values(fresh).on_conflict_do_nothing())
    rows = await tx.execute(
        sa.select(sign_in_guard)
        .where(sign_in_guard.c.bucket.in_(ordered))
        .order_by(sign_in_guard.c.bucket)
        .with_for_update()
    )
    return {row.bucket: Bucket(row.attempts, row.last_attempt_at, row.locked_until) for row in rows}


async def save_buckets(tx: Write, buckets: Mapping[str, Bucket]) -> None:
    statement = insert(sign_in_guard)
    given = statement.excluded
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[sign_in_guard.c.bucket],
            set_={name: given[name] for name in ("attempts", "last_attempt_at", "locked_until")},
        ),
        [
            {
                "bucket": name,
                "attempts": bucket.attempts,
                "last_attempt_at": bucket.last_attempt_at,
                "locked_until": bucket.locked_until,
            }
            for name, bucket in sorted(buckets.items())
        ],
    )


async def empty_buckets(tx: Write, names: Sequence[str]) -> None:
    await tx.execute(sign_in_guard.delete().where(sign_in_guard.c.bucket.in_(names)))


async def forget(tx: Write, *, sessions_before: datetime, attempts_before: datetime) -> None:
    """Drop what serves nobody any more; sources of sign-ins are personal."""
    await tx.execute(session.delete().where(session.c.expires_at < sessions_before))
    await tx.execute(sign_in_guard.delete().where(sign_in_guard.c.last_attempt_at < attempts_before))
