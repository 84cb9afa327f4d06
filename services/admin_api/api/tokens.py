"""API tokens. The secret is in the answer that created it, and nowhere afterwards."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import AwareDatetime, Field, StringConstraints

from services.admin_api.access.store import TokenRow
from services.admin_api.access.tokens import LONGEST_DAYS
from services.admin_api.api.deps import AsAdmin, Key, Limit, TheHouse
from services.admin_api.api.once import once
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from services.admin_api.house import House
from shared.contracts.events.admin_api import Role
from shared.contracts.identity import Frozen
from shared.database.engine import Write

TokenName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]*$"),
]


class TokenBody(Frozen):
    name: TokenName = Field(description="who it is for; stands in the audit log as the actor")
    role: Role = "viewer"
    days: int = Field(90, ge=1, le=LONGEST_DAYS, description="until it expires")


class TokenView(Frozen):
    token_id: UUID
    name: str
    prefix: str
    role: Role
    created_at: AwareDatetime
    created_by: str
    expires_at: AwareDatetime
    last_used_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    revoked_by: str | None


class CreatedToken(TokenView):
    token: str | None = Field(description="shown in this answer only; null when the same key is sent again")


def view(row: TokenRow) -> TokenView:
    return TokenView.model_validate({name: getattr(row, name) for name in TokenView.model_fields})


async def list_tokens(house: House, *, limit: int = 50, after: UUID | None = None) -> Page[TokenView]:
    rows = await house.tokens.list(limit=limit + 1, after=after)
    shown = [view(row) for row in rows[:limit]]
    return Page(items=shown, next_cursor=str(shown[-1].token_id) if len(rows) > limit else None)


async def create_token(house: House, ask: Ask, body: TokenBody, key: str) -> CreatedToken:
    """:raises TokenNameTaken: while a token of that name is not revoked."""

    async def run(tx: Write) -> CreatedToken:
        made = await house.tokens.create(tx, name=body.name, role=body.role, days=body.days, cause=ask.cause)
        return CreatedToken(**view(made.row).model_dump(), token=made.token)

    return await once(
        house,
        ask,
        key,
        name="create_token",
        given=body.model_dump(mode="json"),
        reply=CreatedToken,
        run=run,
        shown_once=frozenset({"token"}),
    )


async def revoke_token(house: House, ask: Ask, token_id: UUID, key: str) -> TokenView:
    """:raises NoSuchToken: there is none of that id."""

    async def run(tx: Write) -> TokenView:
        return view(await house.tokens.revoke(tx, token_id, ask.cause))

    given = {"token_id": str(token_id)}
    return await once(house, ask, key, name="revoke_token", given=given, reply=TokenView, run=run)


router = APIRouter(prefix="/tokens", tags=["tokens"], responses=documented(401, 403, 422, 503))


@router.get("")
async def get_tokens(_: AsAdmin, house: TheHouse, limit: Limit = 50, cursor: UUID | None = None) -> Page[TokenView]:
    """API tokens, newest first, also those that are revoked or expired."""
    return await list_tokens(house, limit=limit, after=cursor)


@router.post("", status_code=201, responses=documented(400, 409))
async def post_token(ask: AsAdmin, house: TheHouse, body: TokenBody, key: Key) -> CreatedToken:
    """Create a token. Keep it now: it cannot be shown again."""
    return await create_token(house, ask, body, key)


@router.post("/{token_id}/revoke", responses=documented(400, 404))
async def post_revoke(ask: AsAdmin, house: TheHouse, token_id: UUID, key: Key) -> TokenView:
    """End a token at once."""
    return await revoke_token(house, ask, token_id, key)
