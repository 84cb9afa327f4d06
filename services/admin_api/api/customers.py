"""Lago's customers, to link cards to."""

from typing import Annotated

from fastapi import APIRouter, Query

from services.admin_api.api.deps import AsViewer, Cursor
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from shared.bus.requests import NoAnswerError
from shared.contracts.requests.sync import CustomerView, SearchCustomers


async def list_customers(
    ask: Ask, *, text: str | None = None, limit: int = 20, cursor: str | None = None
) -> Page[CustomerView]:
    """Customers with their active subscriptions.

    :raises NoAnswerError: sync or Lago does not answer, which is not the same as no customers.
    """
    found = await ask(SearchCustomers(text=text, limit=limit, cursor=cursor))
    if not found.answered:
        raise NoAnswerError("search_customers", "Lago", found.problem or "no reason was given")
    return Page(items=found.customers, next_cursor=found.next_cursor)


router = APIRouter(prefix="/customers", tags=["customers"], responses=documented(401, 403, 422, 503, 504))


@router.get("")
async def get_customers(
    ask: AsViewer,
    q: Annotated[str | None, Query(max_length=100, description="part of a name, an e-mail address or an id")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Cursor = None,
) -> Page[CustomerView]:
    """Customers in Lago with their active subscriptions, asked now."""
    return await list_customers(ask, text=q, limit=limit, cursor=cursor)
