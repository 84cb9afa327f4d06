"""The pages that drivers see: `/scan`, `/kiosk`, `/me`. Nothing personal before the login, nothing left after it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import jinja2
import sqlalchemy as sa
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from services.preauth.chargers.tables import charger
from services.preauth.login.account import Account
from services.preauth.login.attempts import Attempts
from services.preauth.login.browser import DAY_S, DRIVER_COOKIE, KIOSK_COOKIE, Browsers, must_be_own
from services.preauth.login.completing import Login
from services.preauth.pairing import kiosks
from services.preauth.pairing.kiosks import Kiosks
from services.preauth.pairing.kiosks import Row as Kiosk
from shared.database.engine import Database

HERE: Final = Path(__file__).parent
SHARED_STATIC: Final = Path(__file__).parents[3] / "shared" / "web" / "static"

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

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
    templates: jinja2.Environment

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/scan", self.scan, methods=["GET"]),
            Route("/kiosk", self.kiosk, methods=["GET"]),
            Route("/kiosk", self.enrol, methods=["POST"]),
            Route("/me", self.me, methods=["GET"]),
            Route("/me/sign-out", self.sign_out, methods=["POST"]),
            Mount("/static/driver", StaticFiles(directory=HERE / "static")),
            Mount("/static/shared", StaticFiles(directory=SHARED_STATIC)),
        ]

    async def scan(self, request: Request) -> Response:
        """One charger's scan. The key of a QR code stands in the address; the page takes it out of sight."""
        charge_box_id = request.query_params.get("charger", "")
        kiosk = await self._kiosk(request)
        if not charge_box_id:
            if kiosk is not None:
                return RedirectResponse("/kiosk", 303, headers=SECURITY_HEADERS)
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
        response = RedirectResponse("/kiosk", 303, headers=SECURITY_HEADERS)
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
        response = RedirectResponse(home, 303, headers={**SECURITY_HEADERS, "Clear-Site-Data": '"cache"'})
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
        return HTMLResponse(html, status, headers=dict(SECURITY_HEADERS))


_NO_CHARGER: Final = "Scan the QR code on the charger with your phone, or use the screen beside it."
_SIGNED_OUT: Final = "Hold your card to a charger to sign in."


def templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kwh"] = _kwh
    environment.filters["when"] = _when
    return environment


def _kwh(energy_wh: int | None) -> str:
    """Wh as kWh with one decimal, rounded half up; a dash where it is not known yet."""
    if energy_wh is None:
        return "-"
    tenths = (energy_wh + 50) // 100
    return f"{tenths // 10}.{tenths % 10} kWh"


def _when(at: datetime) -> str:
    """UTC for machines; the page writes it in the reader's zone."""
    return at.strftime("%Y-%m-%d %H:%M UTC")


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""
