"""`/me/bindings` and `/bind`: a driver at a kiosk binds the own phone, and forgets it again."""

from dataclasses import dataclass
from urllib.parse import urlencode

import segno
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from services.preauth.login import rules, store
from services.preauth.login.attempts import Attempts
from services.preauth.login.binding import OFFERED, Bindings
from services.preauth.login.browser import BROWSER_COOKIE, DEVICE_KEPT_S, DRIVER_COOKIE, Browsers, must_be_own
from services.preauth.login.completing import Login
from services.preauth.login.forms import read_form
from services.preauth.login.screens import view
from services.preauth.login.screens.render import HEADERS, Screens
from services.preauth.login.screens.view import Bind, Frame, Offer
from shared.contracts.identity import IdTag


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingPages:
    bindings: Bindings
    login: Login
    browsers: Browsers
    attempts: Attempts
    screens: Screens
    public_url: str

    def routes(self) -> list[BaseRoute]:
        return [
            Route(view.BINDINGS, self.offer, methods=["POST"]),
            Route(view.FORGET, self.forget, methods=["POST"]),
            Route(view.BIND, self.ask, methods=["GET"]),
            Route(view.BIND, self.bind, methods=["POST"]),
        ]

    async def offer(self, request: Request) -> Response:
        """The code for the phone, typed or scanned. Shown once: only its digest is kept."""
        must_be_own(request)
        session = await self._session(request)
        if session is None:
            return RedirectResponse(view.ME, 303, headers=HEADERS)
        try:
            code = await self.bindings.offer(session)
        except rules.NotAtKiosk:
            return RedirectResponse(view.ME, 303, headers=HEADERS)
        address = f"{self.public_url}{view.BIND}"
        image = segno.make(f"{address}?{urlencode({'code': code})}", error="m")
        page = Offer(
            code=code,
            address=address,
            image=image.svg_inline(border=4, light="#fff", omitsize=True),
            seconds=int(OFFERED.total_seconds()),
        )
        return self.screens.page(Frame(kiosk=""), page)

    async def forget(self, request: Request) -> Response:
        must_be_own(request)
        handle = (await read_form(request)).get("binding", "")
        session = await self._session(request)
        if session is not None:
            await self.bindings.forget(IdTag(session.id_tag), handle)
        return RedirectResponse(view.ME, 303, headers=HEADERS)

    async def ask(self, request: Request) -> Response:
        """Asks before it binds: an address alone, opened by whoever made the browser open it, does nothing."""
        return self.screens.page(Frame(), Bind(code=request.query_params.get("code", "")[:20]))

    async def bind(self, request: Request) -> Response:
        must_be_own(request)
        code = (await read_form(request)).get("code", "")[:20]
        if not self.attempts.allowed(self.browsers.source(request)):
            return self.screens.page(Frame(), Bind(code=code, notice="too_many"), status=429)
        browser = await self.bindings.confirm(code, self.browsers.held(request, BROWSER_COOKIE))
        if browser is None:
            return self.screens.page(Frame(), Bind(notice="refused"), status=403)
        response = self.screens.page(Frame(), view.Bound())
        self.browsers.keep(response, BROWSER_COOKIE, browser, max_age_s=DEVICE_KEPT_S)
        return response

    async def _session(self, request: Request) -> store.Row | None:
        token = self.browsers.held(request, DRIVER_COOKIE)
        return await self.login.session(token) if token else None
