"""`/scan`, `/kiosk` and `/me`. Nothing personal before the login, nothing left after it.

With scripts, `/scan` calls `/api/pairings*`. Without, its forms come here, and the page asks again every few seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from services.preauth.login import store as logins
from services.preauth.login.account import Account
from services.preauth.login.attempts import Attempts
from services.preauth.login.browser import (
    BROWSER_COOKIE,
    DAY_S,
    DRIVER_COOKIE,
    KIOSK_COOKIE,
    Browsers,
    must_be_own,
)
from services.preauth.login.completing import Login
from services.preauth.login.forms import read_form
from services.preauth.login.screens import stages, store, view
from services.preauth.login.screens.render import HEADERS, LEAVING, Screens
from services.preauth.login.screens.stages import Screen
from services.preauth.login.screens.view import Enrol, Frame, Me, NoCharger, Scan, SessionRow, SignedOut
from services.preauth.pairing import kiosks
from services.preauth.pairing.arming import Arming, Driver
from services.preauth.pairing.kiosks import Kiosks
from services.preauth.pairing.kiosks import Row as Kiosk
from services.preauth.pairing.secrets import digest, new_secret
from shared.contracts.problem import Problem
from shared.database.engine import Database
from shared.runtime.clock import Clock

_CLIENT: Final = ("client_id", "redirect_uri", "code_challenge", "state")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    database: Database
    arming: Arming
    kiosks: Kiosks
    login: Login
    account: Account
    browsers: Browsers
    attempts: Attempts
    clock: Clock
    idle_s: int
    screens: Screens

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/scan", self.scan, methods=["GET"]),
            Route("/scan", self.scan_by_form, methods=["POST"]),
            Route("/kiosk", self.kiosk, methods=["GET"]),
            Route("/kiosk", self.enrol, methods=["POST"]),
            Route("/me", self.me, methods=["GET"]),
            Route("/me/sign-out", self.sign_out, methods=["POST"]),
            self.screens.assets.route(),
        ]

    async def scan(self, request: Request) -> Response:
        """One charger's scan. The key of a QR code stands in the address; the page takes it out of sight.

        Whether somebody is there is asked when a scan begins: a page that was reloaded has no key in its address.
        """
        asked = request.query_params
        kiosk = await self._kiosk(request)
        frame = _frame(kiosk)
        charge_box_id = asked.get("charger", "")
        if not charge_box_id or len(charge_box_id) > 255 or "\x00" in charge_box_id:
            if kiosk is not None:
                return RedirectResponse(view.KIOSK, 303, headers=HEADERS)
            return self._page(frame, NoCharger(), status=404)
        scan = Scan(
            charge_box_id,
            client={name: asked[name] for name in _CLIENT if name in asked},
            key=asked.get("key", ""),
        )
        if "scan" in asked:
            return self._page(frame, await self._as_it_stands(request, scan, asked["scan"]))
        async with self.database.read() as tx:
            if await store.is_off(tx, charge_box_id):
                return self._page(frame, scan.at(Screen.OFF))
            unable = await store.why_unable(tx, charge_box_id)
        if unable is not None:
            present = kiosk is not None or bool(scan.key)
            return self._page(frame, scan.at(Screen.UNABLE, unable=unable if present else ""))
        return self._page(frame, scan)

    async def scan_by_form(self, request: Request) -> Response:
        """Start a scan, or complete its login: for browsers without scripts."""
        must_be_own(request)
        form = await read_form(request)
        scan = Scan(form.get("charger", "")[:255].replace("\x00", ""), key=form.get("key", "")[:200])
        try:
            if form.get("do", "") == "complete":
                return await self._complete(request, form)
            return await self._start(request, scan)
        except Problem as problem:
            screen = stages.OF_PROBLEM.get(problem.code, Screen.FAILED)
            minutes = -(-int(problem.extra.get("retry_after_s", 60)) // 60)
            page = scan.at(screen, pairing_id=form.get("scan", "")[:36], known={"wait": f"{minutes} min"})
            return self._page(_frame(await self._kiosk(request)), page, status=problem.status)

    async def kiosk(self, request: Request) -> Response:
        kiosk = await self._kiosk(request)
        if kiosk is None:
            return self._page(Frame(), Enrol("revoked" if KIOSK_COOKIE in request.cookies else ""))
        await self.kiosks.seen(kiosk.kiosk_id)
        async with self.database.read() as tx:
            chargers = await store.choices(tx, kiosk.charge_box_ids, self.clock())
        return self._page(_frame(kiosk), view.Kiosk(kiosk.name, chargers))

    async def enrol(self, request: Request) -> Response:
        """Exchange the operator's one-time code for this screen's key."""
        must_be_own(request)
        if not self.attempts.allowed(self.browsers.source(request)):
            return self._page(Frame(), Enrol("too_many"), status=429)
        key = await self.kiosks.exchange((await read_form(request)).get("code", ""))
        if key is None:
            return self._page(Frame(), Enrol("refused"), status=403)
        response = RedirectResponse(view.KIOSK, 303, headers=HEADERS)
        self.browsers.keep(response, KIOSK_COOKIE, key, max_age_s=10 * 365 * DAY_S)
        return response

    async def me(self, request: Request) -> Response:
        token = request.cookies.get(DRIVER_COOKIE)
        session = await self.login.session(token) if token else None
        frame = _frame(await self._kiosk(request))
        if session is None:
            response = self._page(frame, SignedOut(), status=401)
            self.browsers.drop(response, DRIVER_COOKIE)
            return response
        account = await self.account.of(session.id_tag, session.session_id)
        rows = None
        if account.sessions is not None:
            rows = tuple(
                SessionRow(
                    row.session.charge_box_id,
                    row.session.connector_id,
                    row.session.started_at,
                    row.session.energy_wh,
                    row.session.billing.state,
                )
                for row in account.sessions
            )
        return self._page(frame, Me(account.name, rows, card_answered=account.answered, idle_s=self.idle_s))

    async def sign_out(self, request: Request) -> Response:
        must_be_own(request)
        token = request.cookies.get(DRIVER_COOKIE)
        if token:
            await self.login.sign_out(token)
        home = view.KIOSK if KIOSK_COOKIE in request.cookies else view.ME
        response = RedirectResponse(home, 303, headers=LEAVING)
        self.browsers.drop(response, DRIVER_COOKIE)
        return response

    async def _as_it_stands(self, request: Request, scan: Scan, pairing_id: str) -> Scan:
        """The scan of a page without scripts, as far as it has come."""
        row = None
        browser = digest(request.cookies.get(BROWSER_COOKIE, ""))
        if (wanted := _uuid(pairing_id)) is not None:
            async with self.database.read() as tx:
                row = await logins.own_pairing(tx, wanted, browser)
        if row is None:
            return scan.at(Screen.OVER)
        screen = stages.OF_STATE.get(row.state) or stages.OF_RESULT.get(row.result or "", Screen.OVER)
        left_s = max(0, round((row.expires_at - self.clock()).total_seconds()))
        known = {"code": row.code, "spelled": " ".join(row.code), "seconds": left_s}
        return scan.at(screen, pairing_id=str(row.pairing_id), known=known)

    async def _start(self, request: Request, scan: Scan) -> Response:
        held = request.cookies.get(BROWSER_COOKIE)
        browser = held or new_secret()
        driver = Driver(
            browser=digest(browser),
            source=self.browsers.source(request),
            kiosk_key=request.cookies.get(KIOSK_COOKIE),
            qr_secret=scan.key or None,
        )
        row = await self.arming.arm_as_driver(scan.charge_box_id, None, driver)
        again = {"key": scan.key} if scan.key else {}
        query = urlencode({"charger": scan.charge_box_id, "scan": str(row.pairing_id), **again})
        response = RedirectResponse(f"{view.SCAN}?{query}", 303, headers=HEADERS)
        if held is None:
            self.browsers.keep(response, BROWSER_COOKIE, browser, max_age_s=365 * DAY_S)
        return response

    async def _complete(self, request: Request, form: Mapping[str, str]) -> Response:
        browser = digest(request.cookies.get(BROWSER_COOKIE, ""))
        pairing_id = _uuid(form.get("scan", "")) or UUID(int=0)
        logged_in = await self.login.complete(pairing_id, browser, form.get("pin", "")[:16] or None)
        response = RedirectResponse(view.ME, 303, headers=HEADERS)
        self.browsers.keep(response, DRIVER_COOKIE, logged_in.token)
        return response

    async def _kiosk(self, request: Request) -> Kiosk | None:
        key = request.cookies.get(KIOSK_COOKIE)
        if not key:
            return None
        async with self.database.read() as tx:
            return await kiosks.by_key(tx, key)

    def _page(self, frame: Frame, page: view.Page, *, status: int = 200) -> Response:
        return HTMLResponse(self.screens.render(frame, page), status, headers=dict(HEADERS))


def _frame(kiosk: Kiosk | None) -> Frame:
    return Frame(kiosk=kiosk.name if kiosk is not None else None)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
