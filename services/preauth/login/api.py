"""`/api/pairings*`, `/api/token` and the keys: what the driver pages and other applications call."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from services.preauth.login import rules, store
from services.preauth.login.browser import (
    BROWSER_COOKIE,
    DEVICE_KEPT_S,
    DRIVER_COOKIE,
    KIOSK_COOKIE,
    Browsers,
    must_be_own,
)
from services.preauth.login.completing import Login
from services.preauth.login.forms import Strict, read_form, read_json
from services.preauth.login.stream import Watch
from services.preauth.login.tokens import Client, TokenError, Tokens
from services.preauth.pairing.arming import Arming, Driver
from services.preauth.pairing.secrets import digest
from shared.database.engine import Database
from shared.runtime.clock import Clock

KEEP_ALIVE_S: Final = 15.0
RETRY_MS: Final = 1000
NO_STORE: Final = {"Cache-Control": "no-store"}


class ArmBody(Strict):
    charge_box_id: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]
    connector_id: Annotated[int, Field(ge=1, le=1000)] | None = None
    key: Annotated[str, Field(max_length=200)] | None = None


class ClientBody(Strict):
    client_id: Annotated[str, Field(max_length=200)]
    redirect_uri: Annotated[str, Field(max_length=2000)]
    code_challenge: Annotated[str, Field(max_length=200)]
    state: Annotated[str, Field(max_length=2000)] = ""

    def client(self) -> Client:
        return Client(self.client_id, self.redirect_uri, self.code_challenge, self.state)


class LoginBody(Strict):
    pin: Annotated[str, Field(max_length=16)] | None = None
    client: ClientBody | None = None


class _Events(StreamingResponse):
    """A page's stream. Its place among those that wait is given back however it ends, also before its first word."""

    def __init__(self, content: AsyncIterator[str], place: ExitStack) -> None:
        super().__init__(content, media_type="text/event-stream", headers={**NO_STORE, "X-Accel-Buffering": "no"})
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            await super().__call__(scope, receive, send)


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    database: Database
    arming: Arming
    login: Login
    tokens: Tokens
    watch: Watch
    browsers: Browsers
    clock: Clock

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/api/pairings", self.arm, methods=["POST"]),
            Route("/api/pairings/{pairing_id:uuid}", self.show, methods=["GET"]),
            Route("/api/pairings/{pairing_id:uuid}", self.cancel, methods=["DELETE"]),
            Route("/api/pairings/{pairing_id:uuid}/events", self.events, methods=["GET"]),
            Route("/api/pairings/{pairing_id:uuid}/login", self.log_in, methods=["POST"]),
            Route("/api/token", self.token, methods=["POST"]),
            Route("/.well-known/jwks.json", self.jwks, methods=["GET"]),
        ]

    async def arm(self, request: Request) -> Response:
        """201 with the scan; the browser that sent this is the only one that can use it."""
        must_be_own(request)
        body = await read_json(request, ArmBody)
        driver = Driver(
            source=self.browsers.source(request),
            browser=self.browsers.held(request, BROWSER_COOKIE),
            kiosk_key=self.browsers.held(request, KIOSK_COOKIE),
            qr_secret=body.key,
        )
        row, browser = await self.arming.arm_as_driver(body.charge_box_id, body.connector_id, driver)
        response = JSONResponse(self._view(row, passed_by=()), status_code=201, headers=NO_STORE)
        self.browsers.keep(response, BROWSER_COOKIE, browser, max_age_s=DEVICE_KEPT_S)
        return response

    async def show(self, request: Request) -> Response:
        own = await self._own(request)
        return JSONResponse(self._view(own, own.passed_by), headers=NO_STORE)

    async def cancel(self, request: Request) -> Response:
        """204, also for one that has ended: then there is nothing left to do."""
        must_be_own(request)
        own = await self._own(request)
        await self.arming.cancel_as_driver(own.pairing_id)
        return Response(status_code=204)

    async def events(self, request: Request) -> Response:
        """Server-sent events, one for each stage from where the page left off (`Last-Event-ID`) to the last, and one
        for each other card that was held there meanwhile.

        :raises TooManyWaiting: before anything was answered.
        """
        own = await self._own(request)
        seen = rules.progress_of(request.headers.get("last-event-id", ""))
        until = own.expires_at + rules.COMPLETE_WITHIN + timedelta(seconds=30)
        if rules.STAGE[own.state] == rules.LAST_STAGE and seen[0] >= rules.LAST_STAGE:
            # Nothing will ever follow: 204 tells an EventSource not to come back.
            return Response(status_code=204)
        place = ExitStack()
        moved = place.enter_context(self.watch.on(own.pairing_id))
        return _Events(self._follow(moved, own.pairing_id, own.browser, seen, until.timestamp()), place)

    async def log_in(self, request: Request) -> Response:
        """Complete the login: 200 with where to go next, and the driver's cookie."""
        must_be_own(request)
        body = await read_json(request, LoginBody)
        if body.client is not None:
            # Before the scan is used up: a wrong address must not cost the driver the tap.
            self.tokens.check(body.client.client())
        browser = digest(self.browsers.held(request, BROWSER_COOKIE) or "")
        logged_in = await self.login.complete(request.path_params["pairing_id"], browser, body.pin)
        next_page = "/me"
        if body.client is not None:
            next_page = await self.tokens.onward(logged_in.session_id, body.client.client())
        response = JSONResponse({"next": next_page}, headers=NO_STORE)
        self.browsers.keep(response, DRIVER_COOKIE, logged_in.token)
        if logged_in.browser is not None:
            self.browsers.keep(response, BROWSER_COOKIE, logged_in.browser, max_age_s=DEVICE_KEPT_S)
        return response

    async def token(self, request: Request) -> Response:
        """RFC 6749, 4.1.3, with PKCE (RFC 7636). No cookie matters here, so any origin may call it."""
        form = await read_form(request)
        if form.get("grant_type") != "authorization_code":
            raise TokenError("unsupported_grant_type", "grant_type must be authorization_code.")
        token = await self.tokens.exchange(
            form.get("code", ""),
            audience=form.get("client_id", ""),
            redirect_uri=form.get("redirect_uri", ""),
            code_verifier=form.get("code_verifier", ""),
        )
        body = {"access_token": token, "token_type": "Bearer", "expires_in": self.tokens.valid_s}
        return JSONResponse(body, headers=NO_STORE)

    async def jwks(self, _: Request) -> Response:
        return JSONResponse(self.tokens.jwks(), headers={"Cache-Control": "public, max-age=300"})

    async def _own(self, request: Request) -> store.Row:
        browser = digest(self.browsers.held(request, BROWSER_COOKIE) or "")
        async with self.database.read() as tx:
            row = await store.own_pairing(tx, request.path_params["pairing_id"], browser)
        if row is None:
            raise rules.NoSuchScan("This page does not belong to a scan that was started here. Start again.")
        return row

    async def _follow(
        self, moved: asyncio.Event, pairing_id: UUID, browser: bytes, seen: rules.Progress, until: float
    ) -> AsyncIterator[str]:
        yield f"retry: {RETRY_MS}\n\n"
        while self.clock().timestamp() < until and not self.watch.ended:
            moved.clear()
            async with self.database.read() as tx:
                row = await store.own_pairing(tx, pairing_id, browser)
            if row is None:
                return
            stage = rules.STAGE[row.state]
            now = (stage, len(row.passed_by))
            if stage > seen[0] or (now > seen and row.state in {"armed", "intercepted"}):
                name = row.state if stage > seen[0] else "another_card"
                seen = now
                data = json.dumps(self._view(row, row.passed_by))
                yield f"id: {rules.event_id(now)}\nevent: {name}\ndata: {data}\n\n"
            if stage == rules.LAST_STAGE:
                return
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    await moved.wait()
            except TimeoutError:
                yield ": still waiting\n\n"

    def _view(self, row: store.Row, passed_by: Sequence[str]) -> dict[str, Any]:
        """What the browser may know: nothing of the card."""
        return {
            "pairing_id": str(row.pairing_id),
            "charge_box_id": row.charge_box_id,
            "connector_id": row.connector_id,
            "code": row.code,
            "state": row.state,
            "expires_at": row.expires_at.isoformat(),
            "expires_in_s": max(0, round((row.expires_at - self.clock()).total_seconds())),
            "result": row.result if row.state in {"consumed", "cancelled"} else None,
            "other_cards": len(passed_by),
            "other_card": rules.other_card(passed_by, weak=row.weak),
        }
