"""`/scan`, `/kiosk` and `/me`. Nothing personal before the login, nothing left after it.

With scripts, `/scan` calls `/api/pairings*`. Without, its forms come here, and the page asks again every few seconds.
"""

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from services.preauth.login import rules
from services.preauth.login import store as logins
from services.preauth.login.account import Account
from services.preauth.login.attempts import Attempts
from services.preauth.login.away import Away, is_away
from services.preauth.login.binding import Bindings
from services.preauth.login.browser import (
    BROWSER_COOKIE,
    DEVICE_KEPT_S,
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
from services.preauth.login.screens.view import BoundRow, Enrol, Frame, Me, NoCharger, Scan, SessionRow, SignedOut
from services.preauth.login.tokens import Client, Tokens
from services.preauth.pairing import kiosks
from services.preauth.pairing import store as pairings
from services.preauth.pairing.arming import Arming, Driver
from services.preauth.pairing.kiosks import Kiosks
from services.preauth.pairing.kiosks import Row as Kiosk
from services.preauth.pairing.secrets import digest
from shared.contracts.problem import Problem
from shared.database.engine import Database
from shared.runtime.clock import Clock
from shared.web.problems import Forbidden, log_refusal

Handler = Callable[[Request, Exception], Awaitable[Response]]

_FOR_PROGRAMS: Final = ("/api/", "/.well-known/")
_CONNECTOR: Final = re.compile("[1-9][0-9]{0,2}")
_CLIENT: Final = ("client_id", "redirect_uri", "code_challenge", "state")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    database: Database
    arming: Arming
    kiosks: Kiosks
    login: Login
    tokens: Tokens
    account: Account
    bindings: Bindings
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
            return self.screens.page(frame, NoCharger(), status=404)
        scan = _scan(charge_box_id, asked)
        if "scan" in asked:
            return self.screens.page(frame, await self._as_it_stands(request, scan, asked["scan"]))
        async with self.database.read() as tx:
            if await pairings.is_off(tx, charge_box_id):
                return self.screens.page(frame, scan.at(Screen.OFF))
            unable = await pairings.why_unable(tx, charge_box_id)
        if unable is not None:
            present = kiosk is not None or bool(scan.key)
            return self.screens.page(frame, scan.at(Screen.UNABLE, unable=unable if present else ""))
        return self.screens.page(frame, scan)

    async def scan_by_form(self, request: Request) -> Response:
        """Start a scan, cancel it, or complete its login: for browsers without scripts."""
        must_be_own(request)
        form = await read_form(request)
        scan = _scan(form.get("charger", "")[:255].replace("\x00", ""), form)
        try:
            return await self._do(request, scan, form)
        except Exception as error:
            if not is_away(error):
                raise
            log_refusal(Away("The database does not answer."), request.url.path)
            goes_on = _address(scan, form.get("scan", "")[:36])
            return self.screens.page(Frame(), view.Trouble("away", goes_on), status=Away.status)

    async def _do(self, request: Request, scan: Scan, form: Mapping[str, str]) -> Response:
        """What the form asks for, or the page that says why not."""
        doing = {"complete": self._complete, "cancel": self._cancel}.get(form.get("do", ""), self._start)
        try:
            return await doing(request, scan, form)
        except Problem as problem:
            log_refusal(problem, request.url.path)
            screen = stages.OF_PROBLEM.get(problem.code, Screen.FAILED)
            minutes = -(-int(problem.extra.get("retry_after_s", 60)) // 60)
            page = scan.at(screen, pairing_id=form.get("scan", "")[:36], known={"wait": f"{minutes} min"})
            return self.screens.page(_frame(await self._kiosk(request)), page, status=problem.status)

    async def kiosk(self, request: Request) -> Response:
        kiosk = await self._kiosk(request)
        if kiosk is None:
            return self.screens.page(Frame(), Enrol("revoked" if self._is_kiosk(request) else ""))
        await self.kiosks.seen(kiosk.kiosk_id)
        async with self.database.read() as tx:
            chargers = await store.choices(tx, kiosk.charge_box_ids, self.clock())
        response = self.screens.page(_frame(kiosk), view.Kiosk(kiosk.name, chargers))
        self.browsers.keep(
            response, KIOSK_COOKIE, self.browsers.held(request, KIOSK_COOKIE) or "", max_age_s=DEVICE_KEPT_S
        )
        return response

    async def enrol(self, request: Request) -> Response:
        """Exchange the operator's one-time code for this screen's key."""
        must_be_own(request)
        if not self.attempts.allowed(self.browsers.source(request)):
            return self.screens.page(Frame(), Enrol("too_many"), status=429)
        key = await self.kiosks.exchange((await read_form(request)).get("code", ""))
        if key is None:
            return self.screens.page(Frame(), Enrol("refused"), status=403)
        response = RedirectResponse(view.KIOSK, 303, headers=HEADERS)
        self.browsers.keep(response, KIOSK_COOKIE, key, max_age_s=DEVICE_KEPT_S)
        return response

    async def me(self, request: Request) -> Response:
        token = self.browsers.held(request, DRIVER_COOKIE)
        session = await self.login.session(token, used="look" not in request.query_params) if token else None
        frame = _frame(await self._kiosk(request))
        if session is None:
            response = self.screens.page(frame, SignedOut(), status=401)
            self.browsers.drop(response, DRIVER_COOKIE)
            return response
        account = await self.account.of(session.id_tag, session.session_id)
        bound = await self.bindings.of(session.id_tag)
        rows = None
        if account.sessions is not None:
            rows = tuple(
                SessionRow(
                    session.charge_box_id,
                    session.connector_id,
                    session.started_at,
                    session.energy_wh,
                    session.billing.state,
                )
                for session in account.sessions
            )
        page = Me(
            account.name,
            rows,
            portal=account.portal,
            card_answered=account.answered,
            bindings=tuple(BoundRow(each.handle, each.bound_at, each.seen_at) for each in bound),
            may_bind=session.kiosk_id is not None,
            idle_s=self.idle_s,
            left_s=max(1, math.ceil(self.idle_s - (self.clock() - session.seen_at).total_seconds())),
        )
        return self.screens.page(frame, page)

    async def sign_out(self, request: Request) -> Response:
        must_be_own(request)
        token = self.browsers.held(request, DRIVER_COOKIE)
        if token:
            await self.login.sign_out(token)
        home = view.KIOSK if self._is_kiosk(request) else view.ME
        response = RedirectResponse(home, 303, headers=LEAVING)
        self.browsers.drop(response, DRIVER_COOKIE)
        return response

    async def _as_it_stands(self, request: Request, scan: Scan, pairing_id: str) -> Scan:
        """The scan of a page without scripts, as far as it has come."""
        row = None
        browser = digest(self.browsers.held(request, BROWSER_COOKIE) or "")
        if (wanted := _uuid(pairing_id)) is not None:
            async with self.database.read() as tx:
                row = await logins.own_pairing(tx, wanted, browser)
        if row is None:
            return scan.at(Screen.OVER)
        screen = stages.of_pairing(row.state, row.result, rules.other_card(row.passed_by, weak=row.weak))
        left_s = max(0, round((row.expires_at - self.clock()).total_seconds()))
        known = {"code": row.code, "spelled": " ".join(row.code), "seconds": left_s}
        return scan.at(screen, pairing_id=str(row.pairing_id), known=known)

    async def _start(self, request: Request, scan: Scan, _: Mapping[str, str]) -> Response:
        driver = Driver(
            source=self.browsers.source(request),
            browser=self.browsers.held(request, BROWSER_COOKIE),
            kiosk_key=self.browsers.held(request, KIOSK_COOKIE),
            qr_secret=scan.key or None,
        )
        row, browser = await self.arming.arm_as_driver(scan.charge_box_id, scan.connector_id, driver)
        response = self._to_scan(scan, str(row.pairing_id))
        self.browsers.keep(response, BROWSER_COOKIE, browser, max_age_s=DEVICE_KEPT_S)
        return response

    async def _cancel(self, request: Request, scan: Scan, form: Mapping[str, str]) -> Response:
        browser, pairing_id = digest(self.browsers.held(request, BROWSER_COOKIE) or ""), _uuid(form.get("scan", ""))
        if pairing_id is not None:
            async with self.database.read() as tx:
                own = await logins.own_pairing(tx, pairing_id, browser)
            if own is not None:
                await self.arming.cancel_as_driver(pairing_id)
        return self._to_scan(scan, form.get("scan", "")[:36])

    async def _complete(self, request: Request, scan: Scan, form: Mapping[str, str]) -> Response:
        client = _client(scan.client)
        if client is not None:
            # Before the scan is used up: a wrong address must not cost the driver the tap.
            self.tokens.check(client)
        browser = digest(self.browsers.held(request, BROWSER_COOKIE) or "")
        pairing_id = _uuid(form.get("scan", "")) or UUID(int=0)
        logged_in = await self.login.complete(pairing_id, browser, form.get("pin", "")[:16] or None)
        response: Response = RedirectResponse(view.ME, 303, headers=HEADERS)
        if client is not None:
            onward = await self.tokens.onward(logged_in.session_id, client)
            response = self.screens.page(
                _frame(await self._kiosk(request)), replace(scan.at(Screen.DONE), onward=onward)
            )
        self.browsers.keep(response, DRIVER_COOKIE, logged_in.token)
        if logged_in.browser is not None:
            self.browsers.keep(response, BROWSER_COOKIE, logged_in.browser, max_age_s=DEVICE_KEPT_S)
        return response

    @staticmethod
    def _to_scan(scan: Scan, pairing_id: str) -> Response:
        return RedirectResponse(_address(scan, pairing_id), 303, headers=HEADERS)

    def or_else(self, other: Handler) -> Handler:
        """An exception handler that answers people with a page, and everything else as `other` does."""

        async def handle(request: Request, error: Exception) -> Response:
            answer = await other(request, error)
            if request.url.path.startswith(_FOR_PROGRAMS):
                return answer
            what: view.What = "failed"
            if isinstance(error, Forbidden):
                what = "elsewhere"
            elif answer.status_code >= 500:
                what = "away"
            status = 503 if isinstance(error, (SQLAlchemyError, OSError)) else answer.status_code
            return self.screens.page(Frame(), view.Trouble(what, self._again(request)), status=status)

        return handle

    def _again(self, request: Request) -> str:
        """Where somebody goes on whose page could not be made."""
        if self._is_kiosk(request):
            return view.KIOSK
        if request.url.path.startswith(view.ME):
            return view.LOOK
        if request.method == "GET":
            return f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
        return view.SCAN

    def _is_kiosk(self, request: Request) -> bool:
        """Whether the browser says so."""
        return self.browsers.held(request, KIOSK_COOKIE) is not None

    async def _kiosk(self, request: Request) -> Kiosk | None:
        key = self.browsers.held(request, KIOSK_COOKIE)
        if not key:
            return None
        async with self.database.read() as tx:
            return await kiosks.by_key(tx, key)


def _scan(charge_box_id: str, given: Mapping[str, str]) -> Scan:
    """What an address or a form says about a scan."""
    connector = given.get("connector", "")
    return Scan(
        charge_box_id,
        int(connector) if _CONNECTOR.fullmatch(connector) else None,
        client={name: given[name][:2000] for name in _CLIENT if name in given},
        key=given.get("key", "")[:200],
    )


def _address(scan: Scan, pairing_id: str) -> str:
    """The page of the scan as it stands, which asks again by itself."""
    asked = {"charger": scan.charge_box_id, "scan": pairing_id, "key": scan.key, **scan.client}
    if scan.connector_id is not None:
        asked["connector"] = str(scan.connector_id)
    return f"{view.SCAN}?{urlencode({name: value for name, value in asked.items() if value})}"


def _client(given: Mapping[str, str]) -> Client | None:
    if not given.get("client_id"):
        return None
    return Client(
        given["client_id"], given.get("redirect_uri", ""), given.get("code_challenge", ""), given.get("state", "")
    )


def _frame(kiosk: Kiosk | None) -> Frame:
    return Frame(kiosk=kiosk.name if kiosk is not None else None)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
