"""The fleet's remote control over HTTP, for a demo: what a driver at a charger would do."""

from typing import TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.chargers.faults import Fault
from deploy.demo.chargers.fleet import Fleet, UnknownChargerError
from deploy.demo.chargers.wire import NoAnswerError

T = TypeVar("T")


class Tap(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    charge_box_id: str
    connector_id: int
    id_tag: str
    start_only: bool = False
    # The session that follows; what is left out is the fleet's.
    energy_wh: int | None = None
    power_w: int | None = None
    behind_s: int | None = None
    factor: int | None = None


class StopOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    charge_box_id: str
    connector_id: int
    reason: str = "Local"
    energy_wh: int | None = None


class Select(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    charge_box_id: str


class StatusOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    charge_box_id: str
    connector_id: int
    status: str
    error_code: str = "NoError"


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


def build_control(fleet: Fleet) -> Starlette:
    """`POST /tap /stop /status /offline /online /faults`, `GET /state`; errors are `{"error": ...}`."""
    control = _Control(fleet)
    routes = [
        Route("/state", control.state, methods=["GET"]),
        Route("/tap", control.tap, methods=["POST"]),
        Route("/stop", control.stop, methods=["POST"]),
        Route("/status", control.status, methods=["POST"]),
        Route("/offline", control.offline, methods=["POST"]),
        Route("/online", control.online, methods=["POST"]),
        Route("/faults", control.faults, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        exception_handlers={
            _RefusedError: _refused,
            UnknownChargerError: _unknown,
            NoAnswerError: _unanswered,
            OSError: _unanswered,
        },
    )


class _Control:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def state(self, _request: Request) -> Response:
        return _json(self._fleet.state())

    async def tap(self, request: Request) -> Response:
        """What the charger was told: {"authorize": "Blocked", "start": null, "charging": false, ...}."""
        order = await _read(request, Tap)
        charger = self._fleet.connector_of(order.charge_box_id, order.connector_id)
        pace = self._fleet.pace(
            energy_wh=order.energy_wh, power_w=order.power_w, behind_s=order.behind_s, factor=order.factor
        )
        told = await charger.tap(order.connector_id, order.id_tag, pace=pace, start_only=order.start_only)
        return _json(told)

    async def stop(self, request: Request) -> Response:
        order = await _read(request, StopOrder)
        charger = self._fleet.connector_of(order.charge_box_id, order.connector_id)
        try:
            session = await charger.stop(order.connector_id, reason=order.reason, energy_wh=order.energy_wh)
        except ValueError as error:
            raise _RefusedError(409, str(error)) from error
        return _json({"transaction_id": session.transaction_id, "energy_wh": session.energy_wh})

    async def status(self, request: Request) -> Response:
        order = await _read(request, StatusOrder)
        charger = self._fleet.connector_of(order.charge_box_id, order.connector_id)
        await charger.set_status(order.connector_id, order.status, order.error_code)
        return _json(charger.state())

    async def offline(self, request: Request) -> Response:
        charger = self._fleet.charger((await _read(request, Select)).charge_box_id)
        await charger.go_offline()
        return _json(charger.state())

    async def online(self, request: Request) -> Response:
        charger = self._fleet.charger((await _read(request, Select)).charge_box_id)
        await charger.go_online()
        return _json(charger.state())

    async def faults(self, request: Request) -> Response:
        """[{"name": "slow", "value": 500, "charge_box_id": "CP-1"}]: these are on from now, and no others."""
        self._fleet.set_faults(await _read(request, list[Fault]))
        return _json(self._fleet.state())


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def _read(request: Request, of: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.body(), type=of)
    except msgspec.DecodeError as error:
        raise _RefusedError(400, str(error)) from error


async def _refused(_request: Request, error: Exception) -> Response:
    status, message = error.args
    return _json({"error": message}, status)


async def _unknown(_request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 404)


async def _unanswered(_request: Request, error: Exception) -> Response:
    return _json({"error": f"the central system did not answer: {error}"}, 504)
