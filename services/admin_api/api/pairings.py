"""Pairings: take the next tap at a charger for something else than charging."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field

from services.admin_api.api.deps import AsOperator, AsViewer, Cursor, Key, Limit
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from shared.contracts.events.preauth import OperatorPurpose
from shared.contracts.identity import Frozen
from shared.contracts.requests.preauth import ArmPairing, CancelPairing, ListPairings, PairingView


class ArmBody(Frozen):
    charge_box_id: str = Field(min_length=1, max_length=255)
    connector_id: int | None = Field(None, ge=1)
    purpose: OperatorPurpose = "find_card"
    window_s: int = Field(90, ge=10, le=300, description="seconds in which the card has to be tapped")


async def list_pairings(
    ask: Ask, *, charger: str | None = None, armed_only: bool = False, limit: int = 50, cursor: str | None = None
) -> Page[PairingView]:
    """Pairings, newest first. :raises NoAnswerError, RemoteProblem: preauth does not answer, or refuses."""
    found = await ask(ListPairings(charge_box_id=charger, armed_only=armed_only, limit=limit, cursor=cursor))
    return Page(items=found.pairings, next_cursor=found.next_cursor)


async def arm_pairing(ask: Ask, body: ArmBody, key: str) -> PairingView:
    """:raises NoAnswerError: unknown whether it was done; the same key finds out. :raises RemoteProblem: refused."""
    request = ArmPairing(
        charge_box_id=body.charge_box_id,
        connector_id=body.connector_id,
        purpose=body.purpose,
        window_s=body.window_s,
    )
    return await ask.change(request, key)


async def cancel_pairing(ask: Ask, pairing_id: UUID, key: str) -> PairingView:
    """:raises NoAnswerError: unknown whether it was done; the same key finds out. :raises RemoteProblem: refused."""
    return await ask.change(CancelPairing(pairing_id=pairing_id), key)


router = APIRouter(prefix="/pairings", tags=["pairings"], responses=documented(401, 403, 422, 503, 504))


@router.get("")
async def get_pairings(
    ask: AsViewer,
    charger: Annotated[str | None, Query(max_length=255, description="chargeBoxId")] = None,
    armed: Annotated[bool, Query(description="only those that wait for a tap now")] = False,  # noqa: FBT002 - a query flag
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[PairingView]:
    """Pairings, newest first."""
    return await list_pairings(ask, charger=charger, armed_only=armed, limit=limit, cursor=cursor)


@router.post("", status_code=201, responses=documented(400, 404, 409))
async def post_pairing(ask: AsOperator, body: ArmBody, key: Key) -> PairingView:
    """Take the next tap at this charger; it does not start a session."""
    return await arm_pairing(ask, body, key)


@router.post("/{pairing_id}/cancel", responses=documented(400, 404, 409))
async def post_cancel(ask: AsOperator, pairing_id: UUID, key: Key) -> PairingView:
    """Let the charger charge again before the time is up."""
    return await cancel_pairing(ask, pairing_id, key)
