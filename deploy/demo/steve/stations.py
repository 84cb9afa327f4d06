"""The OCPP-J endpoint: sockets of stations, frames in, answers and calls out."""

import asyncio
import contextlib
import json
import time
import uuid
from collections import defaultdict
from http import HTTPStatus
from typing import Any

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from deploy.demo.steve import handshake
from deploy.demo.steve.central_system import CentralSystem
from deploy.demo.steve.faults import Faults
from deploy.demo.steve.messages import MESSAGES
from deploy.demo.steve.operations_api import CallError, CallFailedError
from deploy.demo.steve.password_check import PasswordCheck
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.state import SteveState

MAX_TEXT_BYTES = 8 * 1024 * 1024
CALL, CALL_RESULT, CALL_ERROR = 2, 3, 4
POLICY_NOT_ACCEPTABLE, SERVER_ERROR, GOING_AWAY = 1003, 1011, 1001


class _FatalFrameError(Exception):
    """A frame after which SteVe closes the socket with 1011."""


class Stations:
    def __init__(
        self,
        settings: SteveSettings,
        state: SteveState,
        faults: Faults,
        central_system: CentralSystem,
        password_check: PasswordCheck,
    ) -> None:
        self._settings = settings
        self._state = state
        self._faults = faults
        self._central_system = central_system
        self._password_check = password_check
        self._sockets: defaultdict[str, list[_Socket]] = defaultdict(list)
        self._server: Server | None = None
        self.port = settings.ocpp_port

    async def start(self) -> None:
        self._server = await serve(
            self._serve,
            self._settings.host,
            self.port,
            process_request=self._admit,
            select_subprotocol=self._select,
            ping_interval=None,
            max_size=MAX_TEXT_BYTES,
            compression="deflate" if self._settings.compression else None,
            server_header=None,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Refuse new stations and close those that are connected (1001)."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def connected(self) -> set[str]:
        return {charge_box_id for charge_box_id, sockets in self._sockets.items() if sockets}

    async def disconnect(self, charge_box_id: str | None = None, code: int = GOING_AWAY) -> int:
        """Close the sockets of one charger, or of all; the number of closed ones."""
        chosen = [
            socket for box, sockets in self._sockets.items() for socket in sockets if charge_box_id in {None, box}
        ]
        await asyncio.gather(*(socket.connection.close(code) for socket in chosen))
        return len(chosen)

    async def call(self, charge_box_id: str, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Send a call over the station's newest socket and wait for its answer.

        TimeoutError after `operation_timeout_s`, CallError for a CALLERROR, CallFailedError when it is gone.
        """
        sockets = self._sockets.get(charge_box_id)
        if not sockets:
            raise CallFailedError(f"{charge_box_id} is not connected")
        return await sockets[-1].call(action, payload, self._settings.operation_timeout_s)

    async def send_raw(self, charge_box_id: str, frame: str) -> None:
        """Send any text to a station, as a broken SteVe would."""
        await self._sockets[charge_box_id][-1].connection.send(frame)

    # Handshake

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        hits = self._faults.strike(path)
        if "slow" in hits:
            await asyncio.sleep((hits["slow"].value or 0) / 1000)
        if "down" in hits or "drop_before" in hits:
            connection.transport.abort()
            return None
        if "5xx" in hits or "html" in hits:
            return _refuse(handshake.Refusal(hits["5xx"].value or 500 if "5xx" in hits else 502, "fault"))
        refusal = await self._refusal(request, wrong="wrong_credentials" in hits)
        return None if refusal is None else _refuse(refusal)

    async def _refusal(self, request: Request, *, wrong: bool) -> handshake.Refusal | None:
        self._state.requests["ocpp handshake"] += 1
        charge_box_id = handshake.read_charge_box_id(request.path)
        if isinstance(charge_box_id, handshake.Refusal):
            return charge_box_id
        charger = self._state.chargers.get(charge_box_id)
        if charger is None:
            return handshake.Refusal(404, f"{charge_box_id} is unknown")
        if charger.password is not None:
            await self._password_check.run()
        if wrong:
            return handshake.Refusal(401, "bad or missing credentials")
        refusal = handshake.check_credentials(charger, request.headers.get("Authorization"))
        if refusal is not None:
            return refusal
        chosen = handshake.choose_subprotocol(handshake.offered_subprotocols(request.headers))
        return chosen if isinstance(chosen, handshake.Refusal) else None

    def _select(self, _connection: ServerConnection, offered: Any) -> Subprotocol | None:  # noqa: ANN401
        chosen = handshake.choose_subprotocol(list(offered))
        return Subprotocol(chosen) if isinstance(chosen, str) else None

    # Frames

    async def _serve(self, connection: ServerConnection) -> None:
        request = connection.request
        charge_box_id = handshake.read_charge_box_id("" if request is None else request.path)
        if isinstance(charge_box_id, handshake.Refusal):
            await connection.close(SERVER_ERROR)
            return
        socket = _Socket(charge_box_id, connection, self._central_system, self._state, self._faults)
        self._sockets[charge_box_id].append(socket)
        keeper = asyncio.create_task(socket.keep_alive(self._settings.ping_interval_s, self._settings.idle_timeout_s))
        try:
            await socket.read()
        finally:
            self._sockets[charge_box_id].remove(socket)
            if not self._sockets[charge_box_id]:
                del self._sockets[charge_box_id]
            keeper.cancel()
            socket.give_up()


def _refuse(refusal: handshake.Refusal) -> Response:
    status = HTTPStatus(refusal.status)
    headers = Headers({"Connection": "close", "Content-Length": "0"})
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Basic realm="SteVe"'
    return Response(status.value, status.phrase, headers, b"")


class _Socket:
    """One connection of one station. Frames are handled one after the other, as SteVe does."""

    def __init__(
        self,
        charge_box_id: str,
        connection: ServerConnection,
        central_system: CentralSystem,
        state: SteveState,
        faults: Faults,
    ) -> None:
        self.charge_box_id = charge_box_id
        self.connection = connection
        self._central_system = central_system
        self._state = state
        self._faults = faults
        self._seen_ids: set[str] = set()
        self._pending: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._last_activity = time.monotonic()

    async def read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for frame in self.connection:
                self._last_activity = time.monotonic()
                if isinstance(frame, bytes):
                    await self.connection.close(POLICY_NOT_ACCEPTABLE, "Binary messages not supported")
                    return
                if not frame:
                    continue
                try:
                    await self._handle(frame)
                except _FatalFrameError:
                    await self.connection.close(SERVER_ERROR)
                    return

    async def keep_alive(self, ping_interval_s: float, idle_timeout_s: float) -> None:
        """Ping now and then; a missing pong only matters once nothing came for the whole idle timeout."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(min(ping_interval_s, idle_timeout_s))
                if time.monotonic() - self._last_activity >= idle_timeout_s:
                    await self.connection.close(GOING_AWAY, "Idle Timeout")
                    return
                pong = asyncio.ensure_future(await self.connection.ping())
                pong.add_done_callback(self._heard)

    async def call(self, action: str, payload: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        message_id = str(uuid.uuid4())
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pending[message_id] = answer
        try:
            await self._send([CALL, message_id, action, payload])
            async with asyncio.timeout(timeout_s):
                return await answer
        except ConnectionClosed as error:
            raise CallFailedError(f"the connection to {self.charge_box_id} is lost") from error
        finally:
            # From here on its answer is late, and late is the same as unknown.
            self._pending.pop(message_id, None)

    def give_up(self) -> None:
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(CallFailedError(f"the connection to {self.charge_box_id} is lost"))

    def _heard(self, _pong: object) -> None:
        self._last_activity = time.monotonic()

    async def _send(self, message: list[Any]) -> None:
        await self.connection.send(msgspec.json.encode(message).decode())

    async def _handle(self, frame: str) -> None:
        try:
            match msgspec.json.decode(frame):
                case [2, str() as message_id, str() as action, payload]:
                    await self._handle_call(message_id, action, payload)
                case [3, str() as message_id, payload]:
                    self._answered(message_id).set_result(payload)
                case [4, str() as message_id, str() as code, *rest]:
                    description = str(rest[0]) if rest else ""
                    details = json.dumps(rest[1]) if len(rest) > 1 and rest[1] else None
                    self._answered(message_id).set_exception(CallError(code, description, details))
                case _:
                    raise _FatalFrameError
        except msgspec.DecodeError as error:
            raise _FatalFrameError from error

    def _answered(self, message_id: str) -> "asyncio.Future[dict[str, Any]]":
        answer = self._pending.pop(message_id, None)
        if answer is None or answer.done():
            raise _FatalFrameError
        return answer

    async def _handle_call(self, message_id: str, action: str, payload: Any) -> None:  # noqa: ANN401
        self._state.requests[f"ocpp:{action}"] += 1
        if message_id in self._seen_ids:
            await self._refuse(message_id, "ProtocolError", "The message id was used before")
            return
        self._seen_ids.add(message_id)
        hits = self._faults.strike(f"ocpp:{action}")
        if "slow" in hits:
            await asyncio.sleep((hits["slow"].value or 0) / 1000)
        if "down" in hits or "drop_before" in hits:
            self.connection.transport.abort()
            return
        if "5xx" in hits:
            await self._refuse(message_id, "InternalError", "Internal services failed")
            return
        shape = MESSAGES.get(action)
        if shape is None:
            await self._refuse(message_id, "NotImplemented", f"The action '{action}' is not found")
            return
        try:
            message = msgspec.convert(payload, shape)
        except msgspec.ValidationError as error:
            await self._refuse(message_id, "FormationViolation", str(error))
            return
        answer = await self._central_system.answer(self.charge_box_id, message, lookup_fails="internal_error" in hits)
        if "drop_after_commit" in hits:
            self.connection.transport.abort()
            return
        await self._send([CALL_RESULT, message_id, answer])

    async def _refuse(self, message_id: str, code: str, description: str) -> None:
        await self._send([CALL_ERROR, message_id, code, description, {}])
