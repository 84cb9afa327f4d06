"""The switch that stops taps from being taken as scans, at one charger or everywhere."""

from fastapi import APIRouter
from pydantic import Field

from services.admin_api.api.deps import AsOperator, AsViewer, Key
from services.admin_api.api.problems import documented
from shared.contracts.identity import Frozen
from shared.contracts.requests.preauth import GetInterception, InterceptionState, SwitchInterception


class SwitchBody(Frozen):
    on: bool
    charge_box_id: str | None = Field(None, min_length=1, max_length=255, description="null: everywhere")
    why: str = Field("", max_length=500)


router = APIRouter(prefix="/interception", tags=["interception"], responses=documented(400, 401, 403, 422, 503, 504))


@router.get("")
async def get_interception(ask: AsViewer) -> InterceptionState:
    """Where interception is switched off, and whether a QR code alone counts as being there."""
    return await ask(GetInterception())


@router.put("")
async def put_interception(ask: AsOperator, body: SwitchBody, key: Key) -> InterceptionState:
    """Switch interception off, or on again. While it is off every tap is left to SteVe, and nobody can log in."""
    return await ask.change(SwitchInterception(on=body.on, charge_box_id=body.charge_box_id, why=body.why), key)
