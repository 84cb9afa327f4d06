"""Linking a card in three steps, each with its own address: customer, subscription and date, read and confirm."""

import asyncio
from dataclasses import replace
from datetime import datetime

from starlette.responses import Response
from starlette.routing import Route

from services.admin_api.api.cards import LinkBody, find_card, link_card, preview_link
from services.admin_api.api.customers import list_customers
from services.admin_api.console import paths
from services.admin_api.console.drawing import cards as card_drawing
from services.admin_api.console.drawing import links as drawing
from services.admin_api.console.view.links import Customer, LinkForm, LinkPage
from services.admin_api.console.visit import Visit, fresh_key, go, signed_in
from shared.bus.requests import NoAnswerError
from shared.contracts.problem import RemoteProblem

FOUND = 20


async def show(visit: Visit) -> Response:
    form = LinkForm(
        query=visit.query("q")[:100],
        customer=visit.query("customer")[:255],
        subscription=visit.query("subscription"),
        valid_from=visit.query("valid_from") or drawing.field_of(visit.frame.now),
        release_from=visit.query("release_from"),
    )
    page = await _filled(visit, form)
    if page.chosen is not None and visit.query("review") and page.subscriptions:
        page = await _reviewed(visit, page)
    return _page(visit, page)


async def submit(visit: Visit) -> Response:
    form = LinkForm(
        customer=visit.typed("customer")[:255],
        subscription=visit.typed("subscription"),
        valid_from=visit.typed("valid_from"),
        release_from=visit.typed("release_from"),
    )
    key = visit.typed("idempotency_key")[:200] or fresh_key()
    page = await _filled(visit, form)
    valid_from = drawing.instant_of(form.valid_from)
    if valid_from is None or not form.customer or not form.subscription:
        errors = {"form": "The form was not complete. Nothing was changed."}
        return _page(visit, replace(page, errors=errors), status=422)
    releases = visit.typed("release") == "1"
    body = LinkBody(
        external_customer_id=form.customer,
        external_subscription_id=form.subscription,
        valid_from=valid_from,
        release_from=drawing.instant_of(form.releases_since) if releases else None,
    )
    try:
        made = await link_card(visit.ask, page.card.id_tag, body, key, again=visit.typed("again") == "1")
    except RemoteProblem as refused:
        return _page(visit, replace(page, errors={"form": refused.detail}), status=refused.status)
    except NoAnswerError:
        unknown = "Sync did not answer, so it is not known whether the card is linked. Send it again: it is done once."
        page = replace(
            page,
            errors={"form": unknown},
            unknown=True,
            preview=drawing.plain_preview(form.customer, form.subscription, valid_from, body.release_from),
            releases=releases,
            idempotency_key=key,
        )
        return _page(visit, page, status=504)
    return go(paths.address(paths.card(made.id_tag), {"done": "released" if releases else "linked"}))


async def _filled(visit: Visit, form: LinkForm) -> LinkPage:
    """The page as far as the form says: the card, the customers found, the one chosen and its subscriptions.

    :raises NoAnswerError, RemoteProblem: without the card there is nothing to link.
    """
    view = await find_card(visit.ask, visit.request.path_params["id_tag"])
    page = LinkPage(card_drawing.bare_card(view), form, searched=bool(form.query))
    if not form.customer and not form.query:
        return page
    try:
        if not form.customer:
            return replace(page, customers=await _find(visit, form.query))
        named = (await list_customers(visit.ask, external_customer_id=form.customer)).items
    except NoAnswerError:
        return replace(page, customers=None)
    # By its id, and not by its place: whoever is drawn here is whom the link is made with.
    chosen = next((each for each in named if each.external_customer_id == form.customer), None)
    if chosen is None:
        return replace(page, errors={"form": f"Lago has no customer {form.customer}. Choose another."})
    return replace(
        page,
        chosen=drawing.customer(chosen),
        subscriptions=tuple(drawing.subscription(each) for each in chosen.subscriptions),
    )


async def _find(visit: Visit, text: str) -> tuple[Customer, ...]:
    """The customer whose id this is, before those that Lago's search finds: there it may come after many others.

    :raises NoAnswerError:
    """
    named, found = await asyncio.gather(
        list_customers(visit.ask, external_customer_id=text), list_customers(visit.ask, text=text, limit=FOUND)
    )
    return tuple(dict.fromkeys(drawing.customer(each) for each in (*named.items, *found.items)))


async def _reviewed(visit: Visit, page: LinkPage) -> LinkPage:
    """The last step, or the second one again with what has to be corrected."""
    form = page.form
    errors = {}
    usable = {each.external_id for each in page.subscriptions or () if each.usable}
    valid_from = drawing.instant_of(form.valid_from)
    if form.subscription not in usable:
        errors["subscription"] = "Choose one of the active subscriptions."
    if valid_from is None:
        errors["valid_from"] = f"{form.valid_from!r} is no date and time. It looks like 2026-05-01T09:30."
    elif valid_from > visit.frame.now:
        errors["valid_from"] = "This lies in the future. Choose a time up to now, which is in UTC here."
    release_from = drawing.instant_of(form.releases_since)
    if release_from is None and "valid_from" not in errors:
        errors["release_from"] = f"{form.release_from!r} is no date and time. It looks like 2026-05-01T09:30."
    if errors or valid_from is None or release_from is None:
        return replace(page, errors=errors)
    return await _previewed(visit, page, valid_from, release_from)


async def _previewed(visit: Visit, page: LinkPage, valid_from: datetime, release_from: datetime) -> LinkPage:
    form = page.form
    body = LinkBody(
        external_customer_id=form.customer,
        external_subscription_id=form.subscription,
        valid_from=valid_from,
        release_from=release_from,
    )
    try:
        made = await preview_link(visit.ask, page.card.id_tag, body)
    except (NoAnswerError, RemoteProblem):
        # The change itself is checked by its owner all the same; only the counting is missing.
        preview = drawing.plain_preview(form.customer, form.subscription, valid_from)
        return replace(page, preview=preview, idempotency_key=fresh_key())
    if made.problems:
        return replace(page, errors={"form": " ".join(made.problems)})
    return replace(page, preview=drawing.preview(made), idempotency_key=fresh_key())


def _page(visit: Visit, page: LinkPage, *, status: int = 200) -> Response:
    return visit.html("cards/link.html", page, visit.frame.at("cards"), status=status)


_PATH = f"{paths.CARDS}/{{id_tag}}/link"
routes = [
    Route(_PATH, signed_in(show, "operator"), methods=["GET"]),
    Route(_PATH, signed_in(submit, "operator"), methods=["POST"]),
]
