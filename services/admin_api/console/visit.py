"""One request of a signed-in operator, and what every page of the console does with it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import uuid4

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.admin_api import house as houses
from services.admin_api.access import rules
from services.admin_api.access.browser import CSRF_FIELD, SAFE_METHODS, check_csrf
from services.admin_api.access.caller import Caller
from services.admin_api.access.problems import NotSignedIn, RoleTooLow
from services.admin_api.asking import Ask
from services.admin_api.console import paths
from services.admin_api.console.drawing.frame import frame_for
from services.admin_api.console.render import Pages
from services.admin_api.console.view.frame import Frame
from services.admin_api.house import House
from shared.contracts.events.admin_api import Role
from shared.web.pages import SECURITY_HEADERS

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Visit:
    """Who visits, what they sent, and the frame around what they get."""

    request: Request
    house: House
    caller: Caller
    ask: Ask
    frame: Frame
    form: FormData

    def may(self, role: Role) -> bool:
        return rules.allows(self.caller.role, role)

    def query(self, name: str) -> str:
        """A parameter of the address, trimmed; empty where it is not there."""
        return self.request.query_params.get(name, "").strip()

    def typed(self, name: str) -> str:
        """A field of the form, as it was typed; empty where it is not there."""
        value = self.form.get(name, "")
        return value if isinstance(value, str) else ""

    def html(self, template: str, page: object, frame: Frame | None = None, *, status: int = 200) -> Response:
        return html(self.request, template, frame or self.frame, page, status=status)


Page = Callable[[Visit], Awaitable[Response]]


def html(request: Request, template: str, frame: Frame, page: object, *, status: int = 200) -> Response:
    pages: Pages = request.app.state.pages
    return HTMLResponse(pages.render(template, frame, page), status_code=status, headers=dict(SECURITY_HEADERS))


def signed_in(page: Page, role: Role = "viewer", *, before_own_password: bool = False) -> Endpoint:
    """The endpoint of a page for operators of at least this role.

    Somebody who is not signed in is sent to the sign-in and comes back; somebody with a one-time password is sent to
    choose their own. A form must come from one of our pages.
    """

    async def endpoint(request: Request) -> Response:
        house = houses.of(request)
        token = house.cookies.read_session(request)
        caller = await house.authenticate.by_cookie(token) if token else None
        safe = request.method in SAFE_METHODS
        if caller is None:
            if not safe:
                raise NotSignedIn
            return go(paths.address(paths.SIGN_IN, {"next": here(request), "why": "ended" if token else ""}))
        if caller.must_change_password and not before_own_password:
            return go(paths.PASSWORD)
        form = FormData()
        if not safe:
            house.origins.check(request.headers)
            form = await request.form()
            check_csrf(caller, str(form.get(CSRF_FIELD, "")))
        if not rules.allows(caller.role, role):
            raise RoleTooLow(caller.role, role)
        frame = frame_for(house, caller, request)
        return await page(Visit(request, house, caller, house.ask(caller), frame, form))

    return endpoint


def go(address: str) -> Response:
    """After a form, and to the sign-in: a page that is loaded again is not sent again (RFC 9110, 303)."""
    return RedirectResponse(address, status_code=303)


def here(request: Request) -> str:
    """The address of this page, to come back to."""
    address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return address if address != paths.OVERVIEW else ""


def local(address: str) -> str:
    """The address if it is one of ours, otherwise the overview: a link must not lead elsewhere through the sign-in."""
    parts = urlsplit(address)
    plain = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if plain and not parts.scheme and not parts.netloc and "\\" not in address else paths.OVERVIEW


def fresh_key() -> str:
    """The idempotency key of a form: sending it twice does it once."""
    return str(uuid4())
