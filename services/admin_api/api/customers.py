"""Lago's customers, to link cards to."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from services.admin_api.api.deps import AsOperator, AsViewer, Cursor
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from shared.bus.requests import NoAnswerError
from shared.contracts.identity import Frozen
from shared.contracts.problem import NotFound
from shared.contracts.requests.sync import CustomerView, SearchCustomers
from shared.contracts.requests.sync_cards import GetPortalUrl


class NoSuchCustomer(NotFound):
    code, title = "no_such_customer", "Lago does not know this customer"


class Portal(Frozen):
    """The address opens the customer's portal for whoever has it, for a limited time."""

    url: str


async def list_customers(
    ask: Ask,
    *,
    text: str | None = None,
    external_customer_id: str | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> Page[CustomerView]:
    """Customers with their active subscriptions.

    :raises NoAnswerError: sync or Lago does not answer, which is not the same as no customers.
    """
    asked = SearchCustomers(text=text, external_customer_id=external_customer_id, limit=limit, cursor=cursor)
    found = await ask(asked)
    if not found.answered:
        raise NoAnswerError("search_customers", "Lago", found.problem or "no reason was given")
    return Page(items=found.customers, next_cursor=found.next_cursor)


async def portal(ask: Ask, external_customer_id: str) -> Portal:
    """:raises NoAnswerError: sync or Lago does not answer. :raises NoSuchCustomer: Lago has none of that id."""
    found = await ask(GetPortalUrl(external_customer_id=external_customer_id))
    if not found.answered:
        raise NoAnswerError("get_portal_url", "Lago", found.problem or "no reason was given")
    if found.url is None:
        raise NoSuchCustomer(found.problem or f"Lago has no customer {external_customer_id}.")
    return Portal(url=found.url)


router = APIRouter(prefix="/customers", tags=["customers"], responses=documented(401, 403, 422, 503, 504))


@router.get("")
async def get_customers(
    ask: AsViewer,
    q: Annotated[str | None, Query(max_length=100, description="part of a name, an e-mail address or an id")] = None,
    external_customer_id: Annotated[
        str | None, Query(min_length=1, max_length=255, description="the customer of exactly this id, whatever `q` is")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Cursor = None,
) -> Page[CustomerView]:
    """Customers in Lago with their active subscriptions, asked now."""
    return await list_customers(ask, text=q, external_customer_id=external_customer_id, limit=limit, cursor=cursor)


@router.get("/{external_customer_id}/portal", responses=documented(404))
async def get_portal(
    ask: AsOperator, external_customer_id: Annotated[str, Path(min_length=1, max_length=255)]
) -> Portal:
    """A customer's portal in Lago."""
    return await portal(ask, external_customer_id)
