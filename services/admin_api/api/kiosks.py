"""Kiosks: screens beside chargers, at which a login may begin."""

from uuid import UUID

from fastapi import APIRouter
from pydantic import Field

from services.admin_api.api.deps import AsAdmin, AsViewer, Key
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from shared.contracts.identity import Frozen
from shared.contracts.requests.preauth import EnrolKiosk, KioskEnrolment, KioskView, ListKiosks, RevokeKiosk


class KioskBody(Frozen):
    name: str = Field(min_length=1, max_length=100)
    charge_box_ids: list[str] = Field(min_length=1, max_length=200, description="the chargers it stands beside")


router = APIRouter(prefix="/kiosks", tags=["kiosks"], responses=documented(401, 403, 422, 503, 504))


@router.get("")
async def get_kiosks(ask: AsViewer) -> Page[KioskView]:
    """Kiosks, newest first, at most 200, also those that are revoked."""
    return Page(items=(await ask(ListKiosks())).kiosks)


@router.post("", status_code=201, responses=documented(400, 409))
async def post_kiosk(ask: AsAdmin, body: KioskBody, key: Key) -> KioskEnrolment:
    """Make a one-time code; typed in at the screen's `/kiosk` page before it ends, the screen becomes the kiosk."""
    return await ask.change(EnrolKiosk(kiosk_name=body.name, charge_box_ids=body.charge_box_ids), key)


@router.post("/{kiosk_id}/revoke", responses=documented(400, 404, 409))
async def post_revoke_kiosk(ask: AsAdmin, kiosk_id: UUID, key: Key) -> KioskView:
    """Take a kiosk its key: nothing can be armed there any more."""
    return await ask.change(RevokeKiosk(kiosk_id=kiosk_id), key)
