"""Cards: the list, and one card with everything that is known of it."""

from dataclasses import replace

from starlette.responses import Response
from starlette.routing import Route

from services.admin_api.api.cards import CardDetails, list_cards, show_card
from services.admin_api.console import paths
from services.admin_api.console.drawing import cards as drawing
from services.admin_api.console.drawing import events
from services.admin_api.console.drawing.diagnosis import diagnosis
from services.admin_api.console.view.cards import Card, CardList, CardPage
from services.admin_api.console.view.frame import Notice
from services.admin_api.console.view.state import Action, Chip, Pager, State
from services.admin_api.console.visit import Visit, signed_in
from shared.bus.requests import NoAnswerError

SHOWN = 50
_LINKED = {"yes": True, "no": False}
_NEEDS_A_LINK = {"not_linked", "link_not_valid", "no_active_subscription", "other_customers_subscription"}


async def show_list(visit: Visit) -> Response:
    query, linked, cursor = visit.query("q")[:100], visit.query("linked"), visit.query("cursor")
    frame = visit.frame.at("cards", twin=_twin(query, linked), search=query)
    page = CardList(None, query=query, chips=_chips(query, linked), kept=(("linked", linked),) if linked else ())
    try:
        found = await list_cards(
            visit.ask, text=query or None, linked=_LINKED.get(linked), limit=SHOWN, cursor=cursor or None
        )
    except NoAnswerError:
        return visit.html("cards/list.html", page, frame)
    steve_answers = any(each.name == "SteVe" and each.state is State.OK for each in frame.upstreams)
    rows = tuple(drawing.row(view, steve_answers=steve_answers) for view in found.items)
    here = {"q": query, "linked": linked}
    pager = Pager(
        shown=len(rows),
        older=paths.address(paths.CARDS, {**here, "cursor": found.next_cursor}) if found.next_cursor else None,
        newest=paths.address(paths.CARDS, here) if cursor else None,
    )
    shown = replace(page, rows=rows, pager=pager if pager.older or pager.newest else None)
    return visit.html("cards/list.html", shown, frame)


async def show(visit: Visit) -> Response:
    id_tag = visit.request.path_params["id_tag"]
    details, _ = await show_card(visit.ask, id_tag)
    card = drawing.card(details)
    kinds = frozenset(kind for kind in visit.query("show").split(",") if kind)
    timeline = replace(drawing.history(details, kinds), older=paths.subject(f"card/{details.id_tag}"))
    page = CardPage(
        card=card,
        diagnosis=diagnosis(details.diagnosis, _remedies(visit, details, card)),
        relations=drawing.relations(details, visit.frame.now),
        sessions=events.sessions(details.sessions),
        timeline=timeline,
        actions=_actions(visit, card),
    )
    frame = visit.frame.at("cards", twin=f"/api/v1{paths.card(details.id_tag)}", notice=_notice(visit, card))
    return visit.html("cards/show.html", page, frame)


def _chips(query: str, linked: str) -> tuple[Chip, ...]:
    words = (("", "All"), ("yes", "Linked"), ("no", "Not linked"))
    return tuple(
        Chip(word, paths.address(paths.CARDS, {"q": query, "linked": value}), on=linked == value)
        for value, word in words
    )


def _twin(query: str, linked: str) -> str:
    truth = {"yes": "true", "no": "false"}.get(linked, "")
    return paths.address("/api/v1/cards", {"q": query, "linked": truth})


def _actions(visit: Visit, card: Card) -> tuple[Action, ...]:
    if not card.known:
        return ()
    edit = Action("Edit", paths.card_edit(card.id_tag))
    if not visit.may("operator"):
        return (edit,)
    own = card.link is not None and not card.link.inherited_from
    return (Action("Change the link" if own else "Link this card", paths.card_link(card.id_tag)), edit)


def _remedies(visit: Visit, details: CardDetails, card: Card) -> tuple[Action, ...]:
    """What the verdict asks for, where it can be done here."""
    if details.diagnosis.verdict.code not in _NEEDS_A_LINK or not visit.may("operator"):
        return ()
    return (Action("Link this card", paths.card_link(card.id_tag), primary=True),)


def _notice(visit: Visit, card: Card) -> Notice | None:
    """What the form that led here did."""
    done = visit.query("done")
    if done not in {"linked", "released"} or card.link is None:
        return None
    link = card.link
    held = " Its held sessions are released; each is billed within a minute." if done == "released" else ""
    return Notice(
        State.OK,
        f"{card.id_tag} is linked to {link.customer}, subscription {link.external_subscription_id}.{held}",
        Action("Change the link", paths.card_link(card.id_tag)) if visit.may("operator") else None,
    )


routes = [
    Route(paths.CARDS, signed_in(show_list), methods=["GET"]),
    Route(f"{paths.CARDS}/{{id_tag}}", signed_in(show), methods=["GET"]),
]
