"""Chargers: what is known of each, what they are told to do, and the QR codes that hang beside them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field, StringConstraints

from services.admin_api.api.deps import AsAdmin, AsOperator, AsViewer, Key, Limit
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from shared.contracts.events.preauth import Readiness
from shared.contracts.identity import Frozen
from shared.contracts.requests.preauth import (
    ChargerQr,
    ChargerView,
    GetCharger,
    ListChargers,
    PrintChargerQr,
    RotateChargerQr,
)
from shared.contracts.requests.sync import ChargerOperation, OperateCharger, OperationResult

ChargerPath = Annotated[str, StringConstraints(min_length=1, max_length=255)]
"""A chargeBoxId; any character is legal in one, also a slash."""


class OperationBody(Frozen):
    """`parameters` as SteVe's form of the operation names them, such as `{"resetType": "Soft"}` for a Reset."""

    operation: ChargerOperation
    parameters: dict[str, Any] = Field(default_factory=dict, max_length=20)


async def list_chargers(
    ask: Ask,
    *,
    text: str | None = None,
    connected: bool | None = None,
    ready: Readiness | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[ChargerView]:
    """By charge box id. :raises NoAnswerError, RemoteProblem: preauth does not answer, or refuses."""
    found = await ask(ListChargers(text=text, connected=connected, ready=ready, limit=limit, cursor=cursor))
    return Page(items=found.chargers, next_cursor=found.next_cursor)


router = APIRouter(prefix="/chargers", tags=["chargers"], responses=documented(401, 403, 422, 503, 504))


@router.get("")
async def get_chargers(
    ask: AsViewer,
    *,
    q: Annotated[str | None, Query(max_length=255, description="part of the chargeBoxId")] = None,
    connected: Annotated[bool | None, Query(description="only those that are, or are not, connected")] = None,
    ready: Annotated[Readiness | None, Query(description="for tap-to-login")] = None,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(max_length=255)] = None,
) -> Page[ChargerView]:
    """Chargers that came through the gateway or where a card was tapped, by chargeBoxId."""
    return await list_chargers(ask, text=q, connected=connected, ready=ready, limit=limit, cursor=cursor)


# What ends in a word stands before the charger itself, whose name may hold a slash.
@router.get("/{charge_box_id:path}/qr", responses=documented(404))
async def get_qr(ask: AsOperator, charge_box_id: ChargerPath) -> ChargerQr:
    """The charger's QR code to print; it holds the charger's secret."""
    return await ask(PrintChargerQr(charge_box_id=charge_box_id))


@router.post("/{charge_box_id:path}/qr", responses=documented(400, 404, 409))
async def post_qr(ask: AsAdmin, charge_box_id: ChargerPath, key: Key) -> ChargerQr:
    """Make a new QR code; those that were printed before open nothing any more."""
    return await ask.change(RotateChargerQr(charge_box_id=charge_box_id), key)


@router.post("/{charge_box_id:path}/operations", responses=documented(400, 404, 409))
async def post_operation(ask: AsOperator, charge_box_id: ChargerPath, body: OperationBody, key: Key) -> OperationResult:
    """Have SteVe call the charger, once, and wait up to 35 s for its answer, which `outcome` tells.

    504 means that it may have been done: look at the charger before you ask again.
    """
    request = OperateCharger(charge_box_id=charge_box_id, operation=body.operation, parameters=body.parameters)
    return await ask.change(request, key)


@router.get("/{charge_box_id:path}", responses=documented(404))
async def get_charger(ask: AsViewer, charge_box_id: ChargerPath) -> ChargerView:
    """One charger: connection, connectors, open sessions, readiness for tap-to-login."""
    return await ask(GetCharger(charge_box_id=charge_box_id))
