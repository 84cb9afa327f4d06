"""A charger's connection over its whole life: lost, left, found again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.exceptions import WebSocketException

from deploy.demo.chargers.faults import Faults
from deploy.demo.chargers.settings import ChargerSettings
from deploy.demo.chargers.wire import Handlers, NoAnswerError, Wire, open_socket

LEAVES_WITHIN_S = 0.05


class Link:
    """At most one connection at a time. `on_return` runs after each reconnect that nobody asked for."""

    def __init__(
        self,
        settings: ChargerSettings,
        handlers: tuple[Handlers, Handlers],
        on_return: Callable[[], Awaitable[None]],
        report: Callable[..., None],
        faults: Faults,
    ) -> None:
        self._settings = settings
        self._faults = faults
        self._handlers = handlers
        self._on_return = on_return
        self._report = report
        self._wire: Wire | None = None
        self._stays_away = False
        self._connecting = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def online(self) -> bool:
        return self._wire is not None and not self._wire.closed.done()

    @property
    def wire(self) -> Wire:
        """The connection. NoAnswerError when there is none."""
        if self._wire is None or self._wire.closed.done():
            raise NoAnswerError("not connected")
        return self._wire

    async def ask(self, payload: object) -> Any:  # noqa: ANN401 - a call_result dataclass of the library
        await self._faults.before(self.wire.connection.send)
        if not self._faults.cuts:
            return await self.wire.call(payload)
        # The message leaves, and its answer cannot come in.
        self.wire.connection.transport.pause_reading()
        unheard = asyncio.create_task(self.wire.call(payload))
        await asyncio.sleep(LEAVES_WITHIN_S)
        await self.cut()
        return await unheard

    async def connect(self) -> None:
        """Connect if not connected. A refusal is websockets' InvalidStatus."""
        async with self._connecting:
            if self.online:
                return
            connection = await open_socket(
                self._settings.ocpp_url,
                self._settings.charge_box_id,
                password=self._settings.password,
                subprotocols=self._settings.subprotocols,
            )
            self._wire = Wire(
                self._settings.charge_box_id, connection, *self._handlers, self._settings.answer_timeout_s
            )
            self._stays_away = False
        self._report("connected")
        if self._keeper is None and self._settings.reconnect:
            self._keeper = asyncio.create_task(self._keep())

    async def leave(self) -> None:
        """Close, and stay away until `connect`."""
        self._stays_away = True
        await self.hang_up()

    async def hang_up(self) -> None:
        if self._wire is not None:
            await self._wire.close()

    async def cut(self) -> None:
        """Lose the connection without a close frame."""
        if self._wire is not None:
            self._wire.connection.transport.abort()
            await asyncio.wait({self._wire.closed})

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        await self.leave()

    async def _keep(self) -> None:
        """Reconnect after a loss: after each failure later, and never all chargers at the same moment."""
        wait_s = self._settings.reconnect_min_s
        while True:
            if self._wire is not None:
                await asyncio.wait({self._wire.closed})
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.5))
            if self._stays_away or self.online:
                continue
            try:
                await self.connect()
                await self._on_return()
                wait_s = self._settings.reconnect_min_s
            except (OSError, WebSocketException, NoAnswerError) as error:
                self._report("reconnect_failed", why=str(error))
                wait_s = min(wait_s * 2, self._settings.reconnect_max_s)
