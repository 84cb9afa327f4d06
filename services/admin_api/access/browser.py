"""What a browser brings along: its session in a cookie, and proof that a form is ours."""

from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response

from services.admin_api.access import opaque
from services.admin_api.access.caller import Caller
from services.admin_api.access.problems import ForeignForm

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER: Final = "X-CSRF-Token"
CSRF_FIELD: Final = "csrf_token"


class Cookies:
    """Our two cookies. With HTTPS their names carry `__Host-`, which no subdomain can set (RFC 6265bis, 4.1.3.2)."""

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure
        prefix = "__Host-" if secure else ""
        self.session = f"{prefix}expressync_session"
        self.form = f"{prefix}expressync_form"
        """Before the sign-in there is no session to bind a form to; this random value stands in for it."""

    def read_session(self, request: HTTPConnection) -> str | None:
        return request.cookies.get(self.session)

    def give_session(self, response: Response, token: str, expires_at: datetime) -> None:
        self._give(response, self.session, token, expires_at)
        self._take(response, self.form)

    def take_session(self, response: Response) -> None:
        self._take(response, self.session)

    def form_secret(self, request: HTTPConnection) -> tuple[str, bool]:
        """The secret that a signed-out browser's forms are bound to, and whether it has to be given first."""
        known = request.cookies.get(self.form)
        return (known, False) if known else (opaque.form_secret(), True)

    def give_form(self, response: Response, secret: str) -> None:
        self._give(response, self.form, secret, None)

    def _give(self, response: Response, name: str, value: str, expires_at: datetime | None) -> None:
        response.set_cookie(
            name, value, expires=expires_at, path="/", secure=self._secure, httponly=True, samesite="strict"
        )

    def _take(self, response: Response, name: str) -> None:
        response.delete_cookie(name, path="/", secure=self._secure, httponly=True, samesite="strict")


class Origins:
    """Tells our pages from others: by Fetch Metadata where the browser sends it, and by Origin."""

    def __init__(self, public_url: str | None) -> None:
        self._public = urlsplit(public_url).netloc.lower() if public_url else None

    def check(self, headers: Headers) -> None:
        """:raises ForeignForm: for a request that another site's page made."""
        site = headers.get("sec-fetch-site")
        if site is not None and site not in ("same-origin", "none"):
            raise ForeignForm("It was sent by a page of another site.")
        origin = headers.get("origin")
        if origin is None:
            return
        ours = {netloc for netloc in (self._public, headers.get("host", "").lower()) if netloc}
        if urlsplit(origin).netloc.lower() not in ours:
            raise ForeignForm("It was sent by a page of another site.")


def check_csrf(caller: Caller, given: str) -> None:
    """:raises ForeignForm: where the form's token is not this session's."""
    expected = caller.csrf_token
    if expected is None or not opaque.same(expected, given):
        raise ForeignForm("The form is missing its token, or it was signed in again since the page was opened.")


def check_form_secret(secret: str | None, given: str) -> None:
    """The same for somebody who is not signed in.

    :raises ForeignForm: where the token is not this browser's.
    """
    if secret is None or not opaque.same(opaque.csrf_token(secret), given):
        raise ForeignForm("The browser did not send its cookie along, or the page was open for too long.")
