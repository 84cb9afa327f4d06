"""What routes ask for in their signatures: who calls, on whose behalf to ask, under which key a change is made."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Header, Query, Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import StringConstraints

from services.admin_api import house as houses
from services.admin_api.access import rules
from services.admin_api.access.browser import CSRF_HEADER, SAFE_METHODS, check_csrf
from services.admin_api.access.caller import Caller
from services.admin_api.access.problems import NotSignedIn, PasswordChangeRequired, RoleTooLow
from services.admin_api.api.problems import KEY_HEADER
from services.admin_api.asking import Ask
from services.admin_api.house import House
from shared.bus.housekeeping import RESULTS_KEPT
from shared.contracts.events.admin_api import Role
from shared.contracts.request import MAX_ROWS

_bearer = HTTPBearer(auto_error=False, description="An API token, or what `expressync login` was given.")
_cookie = APIKeyCookie(
    name="expressync_session",
    auto_error=False,
    description=f"The console's session. A change also needs the header `{CSRF_HEADER}`, from `GET /api/v1/me`.",
)

TheHouse = Annotated[House, Depends(houses.of)]


async def caller(
    request: Request,
    house: TheHouse,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    _: Annotated[str | None, Security(_cookie)],
) -> Caller:
    """Whoever calls, with whatever role, even before they have chosen a password of their own.

    :raises NotSignedIn, BadToken, ForeignForm: nobody, or not as they should.
    """
    if bearer is not None:
        return await house.authenticate.by_bearer(bearer.credentials)
    token = house.cookies.read_session(request)
    found = await house.authenticate.by_cookie(token) if token else None
    if found is None:
        raise NotSignedIn
    if request.method not in SAFE_METHODS:
        # A browser sends the cookie by itself, so the request must show that one of our pages made it.
        house.origins.check(request.headers)
        check_csrf(found, request.headers.get(CSRF_HEADER, ""))
    return found


AnyCaller = Annotated[Caller, Depends(caller)]


def require(who: Caller, role: Role) -> Caller:
    """:raises PasswordChangeRequired: with a one-time password. :raises RoleTooLow: `who` may not."""
    if who.must_change_password:
        raise PasswordChangeRequired
    if not rules.allows(who.role, role):
        raise RoleTooLow(who.role, role)
    return who


def _asking_as(role: Role) -> Callable[[AnyCaller, TheHouse], Awaitable[Ask]]:
    async def ask(who: AnyCaller, house: TheHouse) -> Ask:
        return house.ask(require(who, role))

    return ask


AsViewer = Annotated[Ask, Depends(_asking_as("viewer"))]
AsOperator = Annotated[Ask, Depends(_asking_as("operator"))]
AsAdmin = Annotated[Ask, Depends(_asking_as("admin"))]

Key = Annotated[
    str,
    Header(
        alias=KEY_HEADER,
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Chosen by the caller: the same key with the same request gives the same result, executed once. It"
        f" is kept for {RESULTS_KEPT.days} days; later it is a new one.",
    ),
]

Limit = Annotated[int, Query(ge=1, le=MAX_ROWS)]
Cursor = Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before")]
CardPath = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
