"""One connection of a charger: the OCPP library over one WebSocket."""

import asyncio
import base64
import contextlib
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from ocpp.exceptions import OCPPError
from ocpp.v16 import ChargePoint
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

# The library logs every frame and every refusal; the charger reports what happens itself.
_QUIET = logging.getLogger("deploy.demo.chargers.wire")
_QUIET.setLevel(logging.CRITICAL)

Handlers = dict[str, Callable[..., Any]]


class NoAnswerError(Exception):
    """The connection is gone, or the answer came too late, or was a CALLERROR."""


async def open_socket(
    ocpp_url: str,
    charge_box_id: str,
    *,
    password: str | None = None,
    subprotocols: tuple[str, ...] = ("ocpp1.6",),
    open_timeout_s: float = 10,
) -> ClientConnection:
    """Connect to `ocpp_url`/`charge_box_id`. InvalidStatus from websockets tells a refusal's HTTP status."""
    headers = {}
    if password is not None:
        token = base64.b64encode(f"{charge_box_id}:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    return await connect(
        f"{ocpp_url.rstrip('/')}/{quote(charge_box_id, safe='')}",
        subprotocols=[Subprotocol(one) for one in subprotocols],
        additional_headers=headers,
        open_timeout=open_timeout_s,
        ping_interval=None,
        compression=None,
        max_size=8 * 1024 * 1024,
        proxy=None,
    )


class Wire:
    """`before` answers the central system's calls, `after` runs when that answer is on its way."""

    def __init__(
        self,
        charge_box_id: str,
        connection: ClientConnection,
        before: Handlers,
        after: Handlers,
        answer_timeout_s: float = 30,
    ) -> None:
        self.connection = connection
        self._point = ChargePoint(charge_box_id, connection, answer_timeout_s, _QUIET)
        for action, handler in before.items():
            self._point.route_map[action] = {"_on_action": handler, "_skip_schema_validation": False}
        for action, handler in after.items():
            self._point.route_map[action]["_after_action"] = handler
        self._reader = asyncio.create_task(self._read())

    @property
    def closed(self) -> "asyncio.Task[None]":
        """Done when the connection is."""
        return self._reader

    async def call(self, payload: object) -> Any:  # noqa: ANN401 - a call_result dataclass of the library
        """Send a call and wait for its result. NoAnswerError when there will be none."""
        call = asyncio.create_task(self._point.call(payload, suppress=False))
        try:
            await asyncio.wait({call, self._reader}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise NoAnswerError("the connection is lost")
            return call.result()
        except (TimeoutError, OCPPError, ConnectionClosed) as error:
            raise NoAnswerError(str(error)) from error
        finally:
            if not call.done():
                call.cancel()
                await asyncio.wait({call})

    async def close(self, code: int = 1000) -> None:
        await self.connection.close(code)
        await asyncio.wait({self._reader})

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._point.start()
