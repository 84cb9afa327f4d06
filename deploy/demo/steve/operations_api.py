"""`POST /steve/api/v1/operations/{Name}`: a call to chargers, answered when they answered."""

import asyncio
import itertools
from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.steve.api import bad_request, json_response, not_found, read_json
from deploy.demo.steve.operations import OPERATIONS, Operation
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.state import SteveState


class CallError(Exception):
    """The station answered with a CALLERROR."""

    def __init__(self, code: str, description: str, details: str | None) -> None:
        super().__init__(code, description, details)
        self.code = code
        self.description = description
        self.details = details


class CallFailedError(Exception):
    """The call could not be sent, or its answer could not be read."""


class Stations(Protocol):
    def connected(self) -> set[str]: ...

    async def call(self, charge_box_id: str, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The CALLRESULT's payload; TimeoutError, CallError, CallFailedError."""
        ...


class _Success(msgspec.Struct, rename="camel"):
    charge_box_id: str
    response: Any


class _Error(msgspec.Struct, rename="camel"):
    charge_box_id: str
    error_code: str
    error_description: str
    error_details: str | None


class _Failure(msgspec.Struct, rename="camel"):
    charge_box_id: str
    exception_message: str


class _Result(msgspec.Struct, rename="camel"):
    task_id: int
    task_finished: bool
    success_responses: list[_Success]
    error_responses: list[_Error]
    exceptions: list[_Failure]


class OperationsApi:
    def __init__(self, state: SteveState, stations: Stations, settings: SteveSettings) -> None:
        self._state = state
        self._stations = stations
        self._settings = settings
        self._task_ids = itertools.count(1)

    def routes(self) -> list[Route]:
        if not self._settings.version.has_operations:
            return []
        return [Route("/operations/{name}", self.run, methods=["POST"])]

    async def run(self, request: Request) -> Response:
        operation = OPERATIONS.get(request.path_params["name"])
        if operation is None:
            raise not_found("No static resource")
        body = await read_json(request)
        try:
            params = msgspec.convert(body, operation.params)
        except msgspec.ValidationError as error:
            raise bad_request() from error
        boxes: list[str] = params.charge_box_id_list
        missing = [box for box in boxes if box not in self._stations.connected()]
        if missing:
            raise bad_request(f"Not connected to charge point(s): {', '.join(missing)}")
        payload = operation.payload(params, self._state)
        result = _Result(next(self._task_ids), True, [], [], [])
        await asyncio.gather(*(self._ask(operation, box, payload, result) for box in boxes))
        return json_response(result)

    async def _ask(self, operation: Operation, box: str, payload: dict[str, Any], result: _Result) -> None:
        try:
            answer = await self._stations.call(box, operation.action, payload)
            response = operation.response(answer)
        except TimeoutError:
            result.task_finished = False
        except CallError as error:
            result.error_responses.append(_Error(box, error.code, error.description, error.details))
        except (CallFailedError, KeyError) as error:
            result.exceptions.append(_Failure(box, str(error)))
        else:
            result.success_responses.append(_Success(box, response))
