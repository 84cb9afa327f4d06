"""The proof that what SteVe recorded, what was sent and what Lago counted are the same."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field

from services.admin_api.api.deps import AsViewer, Cursor, Limit
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from shared.contracts.identity import Frozen
from shared.contracts.request import MAX_ROWS
from shared.contracts.requests.sync_work import Reconcile, ReconcileRow


class Proof(Page[ReconcileRow]):
    checked_at: AwareDatetime


class ReconcileBody(Frozen):
    external_subscription_id: str | None = Field(None, min_length=1, max_length=255, description="null: all")
    limit: int = Field(50, ge=1, le=MAX_ROWS)
    cursor: str | None = Field(None, max_length=500)


async def reconcile(ask: Ask, request: Reconcile) -> Proof:
    """:raises NoAnswerError, RemoteProblem: sync does not answer, or refuses."""
    found = await ask(request)
    return Proof(items=found.rows, checked_at=found.checked_at, next_cursor=found.next_cursor)


router = APIRouter(tags=["reconciliation"], responses=documented(401, 403, 422, 503, 504))


@router.post("/reconcile")
async def post_reconcile(ask: AsViewer, body: ReconcileBody) -> Proof:
    """Prove it now, for one subscription or all, in the current period; for one, also a few of its earlier periods that
    differed. Changes nothing and needs no key.

    SteVe and Lago are read, which may take a minute. What would repair a difference is proposed, not done.
    """
    request = Reconcile(external_subscription_id=body.external_subscription_id, limit=body.limit, cursor=body.cursor)
    return await reconcile(ask, request)


@router.get("/reconciliations")
async def get_reconciliations(
    ask: AsViewer,
    *,
    subscription: Annotated[str | None, Query(max_length=255, description="its external id in Lago")] = None,
    differing: Annotated[bool, Query(description="only where something differs")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Proof:
    """The kept results of earlier proofs, of all periods; nobody is asked."""
    request = Reconcile(
        external_subscription_id=subscription, limit=limit, stored=True, differing=differing, cursor=cursor
    )
    return await reconcile(ask, request)
