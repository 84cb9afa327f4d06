"""Who am I, and the sign-in of the command line (browsers sign in on the console's page)."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import AwareDatetime, Field, SecretStr

from services.admin_api import house as houses
from services.admin_api.access.caller import Caller
from services.admin_api.access.rules import LONGEST_PASSWORD
from services.admin_api.api.deps import AnyCaller, TheHouse
from services.admin_api.api.problems import documented
from shared.contracts.events.admin_api import Role
from shared.contracts.identity import Frozen


class Me(Frozen):
    """The caller. `csrf_token` is what a browser's script sends as `X-CSRF-Token` with each change."""

    kind: Literal["operator", "api_token"]
    name: str
    role: Role
    must_change_password: bool
    csrf_token: str | None = None


class SignInBody(Frozen):
    """`new_password` replaces the password, and is needed with a one-time one."""

    name: str = Field(max_length=200)
    password: SecretStr = Field(max_length=LONGEST_PASSWORD)
    new_password: SecretStr | None = Field(None, max_length=LONGEST_PASSWORD + 1)


class SessionBody(Frozen):
    """`token` goes into `Authorization: Bearer …`; it is shown this once."""

    token: str
    expires_at: AwareDatetime
    me: Me


def me(caller: Caller) -> Me:
    return Me(
        kind=caller.kind,
        name=caller.name,
        role=caller.role,
        must_change_password=caller.must_change_password,
        csrf_token=caller.csrf_token,
    )


router = APIRouter(tags=["session"])


@router.get("/me", responses=documented(401))
async def show_me(caller: AnyCaller) -> Me:
    """Who the token or the cookie belongs to."""
    return me(caller)


@router.post("/session", status_code=201, responses=documented(400, 401, 403, 422, 429))
async def sign_in(request: Request, body: SignInBody, house: TheHouse) -> SessionBody:
    """Exchange a name and a password for a session of the command line. Needs no idempotency key."""
    signed_in = await house.sign_in.sign_in(
        body.name,
        body.password.get_secret_value(),
        source=houses.source(request),
        kind="cli",
        new_password=body.new_password.get_secret_value() if body.new_password else None,
    )
    return SessionBody(token=signed_in.token, expires_at=signed_in.expires_at, me=me(signed_in.caller))


@router.delete("/session", status_code=204, responses=documented(401, 403))
async def sign_out(caller: AnyCaller, house: TheHouse) -> Response:
    """End this session; repeating it does no harm."""
    await house.sign_in.sign_out(caller)
    return Response(status_code=204)
