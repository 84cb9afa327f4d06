"""`/_sim`: what a test or a demo in another process needs to know and to change. No credentials."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.steve.api import json_response
from deploy.demo.steve.faults import Fault, Faults
from deploy.demo.steve.model import StopActor
from deploy.demo.steve.seed import Seed, apply_seed
from deploy.demo.steve.state import SteveState
from deploy.demo.steve.views import tag_overview

T = TypeVar("T")


class History(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /_sim/transactions`: `count` transactions of one kind, each `every_s` seconds after the other."""

    charge_box_id: str
    id_tag: str
    start_at: datetime
    start_wh: int = 0
    connector_id: int = 1
    energy_wh: int | None = None  # None: still open
    duration_s: int = 3600
    stop_reason: str | None = None
    stop_actor: StopActor = StopActor.STATION
    count: int = 1
    every_s: int = 0


class Control:
    def __init__(
        self,
        state: SteveState,
        faults: Faults,
        connected: Callable[[], set[str]],
        hook_outcomes: Callable[[], dict[str, int]],
        disconnect: Callable[[str | None], Awaitable[int]],
    ) -> None:
        self._state = state
        self._faults = faults
        self._connected = connected
        self._hook_outcomes = hook_outcomes
        self._disconnect = disconnect

    def routes(self) -> list[Route]:
        return [
            Route("/state", self.show, methods=["GET"]),
            Route("/faults", self.set_faults, methods=["POST"]),
            Route("/seed", self.seed, methods=["POST"]),
            Route("/transactions", self.add_transactions, methods=["POST"]),
            Route("/disconnect", self.disconnect, methods=["POST"]),
        ]

    async def show(self, _request: Request) -> Response:
        state = self._state
        return json_response(
            {
                "requests": dict(state.requests),
                "faults": self._faults.active,
                "hook": self._hook_outcomes(),
                "tags": [tag_overview(state, tag) for tag in state.tags.values()],
                "chargers": [
                    {
                        **msgspec.to_builtins(charger, str_keys=True),
                        "password": None,
                        "connected": charger.charge_box_id in self._connected(),
                    }
                    for charger in state.chargers.values()
                ],
                "transactions": len(state.transactions),
                "active_transactions": [one.pk for one in state.transactions.values() if one.active],
                "last_transaction_pk": max(state.transactions, default=0),
                "failed_stops": state.failed_stops,
            }
        )

    async def set_faults(self, request: Request) -> Response:
        """The faults that shall be on from now on; an empty list switches all off."""
        faults = await _read(request, list[Fault])
        if isinstance(faults, Response):
            return faults
        self._faults.replace(faults)
        return json_response(self._faults.active)

    async def seed(self, request: Request) -> Response:
        seed = await _read(request, Seed)
        if isinstance(seed, Response):
            return seed
        apply_seed(self._state, seed)
        return Response(status_code=204)

    async def add_transactions(self, request: Request) -> Response:
        history = await _read(request, History)
        if isinstance(history, Response):
            return history
        with self._state.batch():
            pks = [self._add(history, number) for number in range(history.count)]
        return json_response({"first": pks[0] if pks else None, "last": pks[-1] if pks else None}, 201)

    async def disconnect(self, request: Request) -> Response:
        """Close one charger's sockets, or all (`charge_box_id` left out)."""
        body = await _read(request, dict[str, Any])
        if isinstance(body, Response):
            return body
        return json_response({"closed": await self._disconnect(body.get("charge_box_id"))})

    def _add(self, history: History, number: int) -> int:
        start_at = history.start_at + timedelta(seconds=history.every_s * number)
        start_wh = history.start_wh + (history.energy_wh or 0) * number
        open_still = history.energy_wh is None
        transaction = self._state.add_transaction(
            charge_box_id=history.charge_box_id,
            connector_id=history.connector_id,
            id_tag=history.id_tag,
            start_at=start_at,
            start_wh=start_wh,
            stop_at=None if open_still else start_at + timedelta(seconds=history.duration_s),
            stop_wh=start_wh + (history.energy_wh or 0),
            stop_reason=history.stop_reason,
            stop_actor=history.stop_actor,
        )
        return transaction.pk


async def _read(request: Request, of: type[T]) -> T | Response:
    try:
        return msgspec.json.decode(await request.body(), type=of)
    except msgspec.DecodeError as error:
        return json_response({"error": str(error)}, 400)
