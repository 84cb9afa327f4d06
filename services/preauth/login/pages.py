"""The pages that drivers see: `/scan`, `/kiosk`, `/me`. Nothing personal before the login, nothing left after it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jinja2
import sqlalchemy as sa
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from services.preauth.chargers.tables import charger
from services.preauth.login.account import Account
from services.preauth.login.attempts import Attempts
from services.preauth.login.browser import DAY_S, DRIVER_COOKIE, KIOSK_COOKIE, Browsers, must_be_own
from services.preauth.login.completing import Login
from services.preauth.pairing import kiosks
from services.preauth.pairing.kiosks import Kiosks
from services.preauth.pairing.kiosks import Row as Kiosk
from shared.database.engine import Database
from shared.web.figures import kwh
from shared.web.pages import SECURITY_HEADERS, Assets, environment
from shared.web.times import instant, iso

HERE: Final = Path(__file__).parent

STATIC: Final = HERE / "static"
HEADERS: Final = {**SECURITY_HEADERS, "Cache-Control": "no-store"}

_CLIENT: Final = ("client_id", "redirect_uri", "code_challenge", "state")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    database: Database
    kiosks: Kiosks
    login: Login
    account: Account
    browsers: Browsers
    attempts: Attempts
    idle_s: int
    assets: Assets
    templates: jinja2.Environment

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/scan", self.scan, methods=["GET"]),
            Route("/kiosk", self.kiosk, methods=["GET"]),
            Route("/kiosk", self.enrol, methods=["POST"]),
            Route("/me", self.me, methods=["GET"]),
            Route("/me/sign-out", self.sign_out, methods=["POST"]),
            self.assets.route(),
        ]

    async def scan(self, request: Request) -> Response:
        """One charger's scan. The key of a QR code stands in the address; the page takes it out of sight."""
        charge_box_id = request.query_params.get("charger", "")
        kiosk = await self._kiosk(request)
        if not charge_box_id:
            if kiosk is not None:
                return RedirectResponse("/kiosk", 303, headers=HEADERS)
            return self._page("message.html", title="Scan the code on the charger", text=_NO_CHARGER, status=404)
        if kiosk is None and "key" not in request.query_params:
            return self._page("message.html", title="Scan the code on the charger", text=_NO_CHARGER, status=403)
        client = {name: request.query_params[name] for name in _CLIENT if name in request.query_params}
        return self._page(
            "scan.html",
            charge_box_id=charge_box_id,
            kiosk=kiosk,
            client=client,
            unable=await self._why_unable(charge_box_id),
        )

    async def kiosk(self, request: Request) -> Response:
        kiosk = await self._kiosk(request)
        if kiosk is None:
            return self._page("kiosk_enrol.html", message="")
        await self.kiosks.seen(kiosk.kiosk_id)
        return self._page("kiosk.html", kiosk=kiosk)

    async def enrol(self, request: Request) -> Response:
        """Exchange the operator's one-time code for this screen's key."""
        must_be_own(request)
        if not self.attempts.allowed(self.browsers.source(request)):
            return self._page("kiosk_enrol.html", message="Too many attempts. Wait a minute.", status=429)
        code = _text(await request.form(max_files=0, max_fields=4), "code")
        key = await self.kiosks.exchange(code)
        if key is None:
            message = "This code is wrong, used, or older than ten minutes. Ask an operator for a new one."
            return self._page("kiosk_enrol.html", message=message, status=403)
        response = RedirectResponse("/kiosk", 303, headers=HEADERS)
        self.browsers.keep(response, KIOSK_COOKIE, key, max_age_s=10 * 365 * DAY_S)
        return response

    async def me(self, request: Request) -> Response:
        token = request.cookies.get(DRIVER_COOKIE)
        session = await self.login.session(token) if token else None
        home = "/kiosk" if KIOSK_COOKIE in request.cookies else "/scan"
        if session is None:
            response = self._page("message.html", title="You are signed out", text=_SIGNED_OUT, home=home, status=401)
            self.browsers.drop(response, DRIVER_COOKIE)
            return response
        account = await self.account.of(session.id_tag, session.session_id)
        return self._page("me.html", account=account, idle_s=self.idle_s)

    async def sign_out(self, request: Request) -> Response:
        must_be_own(request)
        token = request.cookies.get(DRIVER_COOKIE)
        if token:
            await self.login.sign_out(token)
        home = "/kiosk" if KIOSK_COOKIE in request.cookies else "/me"
        response = RedirectResponse(home, 303, headers={**HEADERS, "Clear-Site-Data": '"cache"'})
        self.browsers.drop(response, DRIVER_COOKIE)
        return response

    async def _kiosk(self, request: Request) -> Kiosk | None:
        key = request.cookies.get(KIOSK_COOKIE)
        if not key:
            return None
        async with self.database.read() as tx:
            return await kiosks.by_key(tx, key)

    async def _why_unable(self, charge_box_id: str) -> str | None:
        """Why taps at this charger do not reach us, where that is known."""
        async with self.database.read() as tx:
            statement = sa.select(charger.c.ready_reason).where(
                charger.c.charge_box_id == charge_box_id, charger.c.ready == "no"
            )
            reason: str | None = (await tx.execute(statement)).scalar_one_or_none()
        return reason

    def _page(self, template: str, *, status: int = 200, **values: Any) -> Response:  # noqa: ANN401 - what it shows
        html = self.templates.get_template(template).render(**values)
        return HTMLResponse(html, status, headers=HEADERS)


_NO_CHARGER: Final = "Scan the QR code on the charger with your phone, or use the screen beside it."
_SIGNED_OUT: Final = "Hold your card to a charger to sign in."


def templates(assets: Assets) -> jinja2.Environment:
    made = environment(HERE / "templates")
    made.globals.update(assets=assets.address)
    made.filters.update(kwh=lambda wh: "-" if wh is None else f"{kwh(wh)} kWh", instant=instant, iso=iso)
    return made


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""
