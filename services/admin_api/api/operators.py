"""Operators: who may come in, and as what."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import AwareDatetime, Field, StringConstraints

from services.admin_api.access import rules
from services.admin_api.access.operators import OneTimePassword
from services.admin_api.access.store import OperatorRow
from services.admin_api.api.deps import AsAdmin, Key, TheHouse
from services.admin_api.api.once import once
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from services.admin_api.house import House
from shared.contracts.events.admin_api import Role
from shared.contracts.identity import Frozen
from shared.database.engine import Write

NamePath = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class OperatorBody(Frozen):
    name: str = Field(min_length=1, max_length=64)
    role: Role = "viewer"


class OperatorChange(Frozen):
    """What is left out stays."""

    role: Role | None = None
    enabled: bool | None = None


class OperatorView(Frozen):
    name: str
    role: Role
    enabled: bool
    has_own_password: bool = Field(description="false until the one-time password was replaced")
    created_at: AwareDatetime
    created_by: str


class OneTimePasswordView(Frozen):
    operator: str
    one_time_password: str | None = Field(description="shown in this answer only; null when the same key is sent again")
    until: AwareDatetime | None


def view(row: OperatorRow) -> OperatorView:
    return OperatorView(
        name=row.name,
        role=row.role,
        enabled=row.disabled_at is None,
        has_own_password=row.one_time_until is None,
        created_at=row.created_at,
        created_by=row.created_by,
    )


def _told(made: OneTimePassword) -> OneTimePasswordView:
    return OneTimePasswordView(operator=made.operator, one_time_password=made.password, until=made.until)


async def create_operator(house: House, ask: Ask, body: OperatorBody, key: str) -> OneTimePasswordView:
    """:raises BadOperatorName, OperatorExists: nothing was created."""
    made = await house.operators.make_one_time_password()

    async def run(tx: Write) -> OneTimePasswordView:
        return _told(await house.operators.create(tx, body.name, body.role, made, ask.cause))

    return await once(
        house,
        ask,
        key,
        name="create_operator",
        given=body.model_dump(mode="json"),
        reply=OneTimePasswordView,
        run=run,
        shown_once=frozenset({"one_time_password"}),
    )


async def change_operator(house: House, ask: Ask, name: str, body: OperatorChange, key: str) -> OperatorView:
    """:raises NoSuchOperator, LastAdmin: nothing was changed."""
    name = rules.operator_name(name)

    async def run(tx: Write) -> OperatorView:
        return view(await house.operators.change(tx, name, ask.cause, role=body.role, enabled=body.enabled))

    given = {"name": name, **body.model_dump(mode="json")}
    return await once(house, ask, key, name="change_operator", given=given, reply=OperatorView, run=run)


async def reset_password(house: House, ask: Ask, name: str, key: str) -> OneTimePasswordView:
    """:raises NoSuchOperator: nothing was changed."""
    name = rules.operator_name(name)
    made = await house.operators.make_one_time_password()

    async def run(tx: Write) -> OneTimePasswordView:
        return _told(await house.operators.reset_password(tx, name, made, ask.cause))

    return await once(
        house,
        ask,
        key,
        name="reset_password",
        given={"name": name},
        reply=OneTimePasswordView,
        run=run,
        shown_once=frozenset({"one_time_password"}),
    )


router = APIRouter(prefix="/operators", tags=["operators"], responses=documented(401, 403, 422, 503))


@router.get("")
async def get_operators(_: AsAdmin, house: TheHouse) -> Page[OperatorView]:
    """All operators, by name."""
    return Page(items=[view(row) for row in await house.operators.list()])


@router.post("", status_code=201, responses=documented(400, 409))
async def post_operator(ask: AsAdmin, house: TheHouse, body: OperatorBody, key: Key) -> OneTimePasswordView:
    """Create an operator, who signs in with the one-time password of this answer and then chooses another."""
    return await create_operator(house, ask, body, key)


@router.patch("/{name}", responses=documented(400, 404, 409))
async def patch_operator(ask: AsAdmin, house: TheHouse, name: NamePath, body: OperatorChange, key: Key) -> OperatorView:
    """Give another role, disable (signs them out everywhere) or enable."""
    return await change_operator(house, ask, name, body, key)


@router.post("/{name}/reset-password", responses=documented(400, 404))
async def post_reset(ask: AsAdmin, house: TheHouse, name: NamePath, key: Key) -> OneTimePasswordView:
    """A new one-time password for somebody who lost theirs; signs them out everywhere."""
    return await reset_password(house, ask, name, key)
