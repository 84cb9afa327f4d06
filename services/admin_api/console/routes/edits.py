"""Editing a card: one page, a form for each change. A viewer sees it without the forms."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from starlette.responses import Response
from starlette.routing import Route

from services.admin_api.answers import Answered, Part, Silent
from services.admin_api.api import card_changes as api
from services.admin_api.api.cards import find_card
from services.admin_api.console import paths
from services.admin_api.console.drawing import edits as drawing
from services.admin_api.console.drawing.links import instant_of
from services.admin_api.console.view.edits import SECTIONS, EditPage, Fault, Section
from services.admin_api.console.view.frame import Notice
from services.admin_api.console.view.state import Action, State
from services.admin_api.console.visit import Visit, fresh_key, go, signed_in
from services.admin_api.diagnosis.evidence import steve_now
from shared.bus.effects import EffectUnknown, StillRunning
from shared.bus.requests import NoAnswerError
from shared.contracts.problem import RemoteProblem
from shared.contracts.requests.audit import EntryView, SearchEntries
from shared.contracts.requests.sync import CardView, ReadCardInSteve

FIELDS: Final = ("display_name", "cardholder", "card_type", "active", "notes", "parent", "expiry", "reason", "limit")
LOCAL: Final = ("display_name", "cardholder", "notes")
LONGEST: Final = {"display_name": 200, "cardholder": 200, "notes": 1000}
_CHANGES_READ: Final = 50
NOT_KNOWN: Final = frozenset({StillRunning.code, EffectUnknown.code, "outcome_unknown"})
"""Refusals that leave open whether the change was made, or will be."""


class NotMeantError(Exception):
    """What was typed cannot be meant; the message says what it takes."""


async def show(visit: Visit) -> Response:
    page, view = await _page(visit)
    frame = visit.frame.at("cards", notice=_notice(visit, page, view))
    return visit.html("cards/edit.html", page, frame)


def submit(section: Section) -> Callable[[Visit], Awaitable[Response]]:
    async def change(visit: Visit) -> Response:
        id_tag = visit.request.path_params["id_tag"]
        key = visit.typed("idempotency_key")[:200] or fresh_key()
        try:
            made = await _CHANGES[section](visit, id_tag, key)
        except NotMeantError as error:
            return await _refused(visit, Fault(section, str(error)), fresh_key(), status=422)
        except RemoteProblem as refused:
            fault = Fault(section, refused.detail, unknown=refused.code in NOT_KNOWN)
            # What is still being done is asked after by its own key; all else is another try.
            again = key if refused.code == StillRunning.code else fresh_key()
            return await _refused(visit, fault, again, status=refused.status)
        except NoAnswerError as silence:
            sentence = (
                f"{silence.owner[:1].upper()}{silence.owner[1:]} did not answer, so it is not known whether this was "
                "done. Send it again: it is done once."
            )
            return await _refused(visit, Fault(section, sentence, unknown=True), key, status=504)
        change_id = str(made.last_change_id or "") if section != "undo" else ""
        return go(paths.address(paths.card_edit(made.id_tag), {"done": section, "change": change_id}))

    return change


async def _block(visit: Visit, id_tag: str, key: str) -> CardView:
    reason = visit.typed("reason").strip()
    if not 0 < len(reason) <= 500:
        raise NotMeantError("Say why, in at most 500 characters: whoever asks later reads it.")
    return await api.block_card(visit.ask, id_tag, reason, key)


async def _unblock(visit: Visit, id_tag: str, key: str) -> CardView:
    text = visit.typed("limit").strip()
    if not text:
        return await api.unblock_card(visit.ask, id_tag, None, key)
    if not text.removeprefix("-").isdecimal() or not -1 <= int(text) <= 1000 or int(text) == 0:
        raise NotMeantError("The limit is a number of sessions from 1 to 1000, or -1 for any number.")
    return await api.unblock_card(visit.ask, id_tag, int(text), key)


async def _parent(visit: Visit, id_tag: str, key: str) -> CardView:
    parent = visit.typed("parent").strip()
    if len(parent) > 64:
        raise NotMeantError("An idTag has at most 64 characters.")
    return await api.change_parent(visit.ask, id_tag, api.ParentBody(parent_id_tag=parent or None), key)


async def _expiry(visit: Visit, id_tag: str, key: str) -> CardView:
    text = visit.typed("expiry").strip()
    expiry: datetime | None = instant_of(text)
    if text and expiry is None:
        raise NotMeantError(f"{text!r} is no date and time. It looks like 2027-01-01T00:00.")
    return await api.set_expiry(visit.ask, id_tag, api.ExpiryBody(expiry=expiry), key)


async def _unlink(visit: Visit, id_tag: str, key: str) -> CardView:
    return await api.unlink_card(visit.ask, id_tag, api.UnlinkBody(), key)


async def _local(visit: Visit, id_tag: str, key: str) -> CardView:
    """Only what differs from what the form showed: what somebody else changed meanwhile stays."""
    changes: dict[str, Any] = {}
    for name in LOCAL:
        text = visit.typed(name).replace("\r\n", "\n").strip()
        if len(text) > LONGEST[name]:
            raise NotMeantError(f"{name.replace('_', ' ').capitalize()} takes at most {LONGEST[name]} characters.")
        if text != visit.typed(f"was_{name}").replace("\r\n", "\n"):
            changes[name] = text or None
    if visit.typed("card_type") != visit.typed("was_card_type"):
        changes["card_type"] = visit.typed("card_type")
    if visit.typed("active") != visit.typed("was_active"):
        changes["active"] = visit.typed("active") == "1"
    if not changes:
        raise NotMeantError("Nothing differs from what is kept already.")
    try:
        body = api.CardChanges.model_validate(changes)
    except ValueError:
        raise NotMeantError("The form was not complete. Load the page again.") from None
    return await api.change_card(visit.ask, id_tag, body, key)


async def _undo(visit: Visit, _: str, key: str) -> CardView:
    try:
        change_id = UUID(visit.typed("change_id"))
    except ValueError:
        raise NotMeantError("The form was not complete. Load the page again.") from None
    return await api.undo_change(visit.ask, change_id, key)


_CHANGES: Final[dict[Section, Callable[[Visit, str, str], Awaitable[CardView]]]] = {
    "block": _block,
    "unblock": _unblock,
    "parent": _parent,
    "expiry": _expiry,
    "unlink": _unlink,
    "local": _local,
    "undo": _undo,
}


async def _page(visit: Visit) -> tuple[EditPage, CardView]:
    """:raises NoAnswerError, RemoteProblem: without the card there is nothing to edit."""
    id_tag = visit.request.path_params["id_tag"]
    view, steve, entries = await asyncio.gather(
        find_card(visit.ask, id_tag),
        visit.ask.part(ReadCardInSteve(id_tag=id_tag)),
        visit.ask.part(SearchEntries(subject=f"card/{id_tag.strip().upper()}", limit=_CHANGES_READ)),
    )
    changes: Part[list[EntryView]] = (
        entries if isinstance(entries, Silent) else Answered(value=entries.value.entries, as_of=entries.as_of)
    )
    page = drawing.page(view, steve_now(steve), changes, may_edit=visit.may("operator"))
    return replace(page, keys={section: fresh_key() for section in SECTIONS}), view


async def _refused(visit: Visit, fault: Fault, key: str, *, status: int) -> Response:
    """The page again with what was typed, to be sent under this key."""
    page, _ = await _page(visit)
    typed = {name: visit.typed(name) for name in FIELDS if name in visit.form}
    if fault.section == "local":
        typed["active"] = visit.typed("active")
    page = replace(drawing.typed_over(page, typed), fault=fault, keys={**page.keys, fault.section: key})
    return visit.html("cards/edit.html", page, visit.frame.at("cards"), status=status)


def _notice(visit: Visit, page: EditPage, view: CardView) -> Notice | None:
    """What the form that led here did, with its undo while nothing else was changed since."""
    sentence = drawing.done(visit.query("done"), view)
    if not sentence:
        return None
    undo = None
    if page.last is not None and page.may_edit and visit.query("change") == page.last.change_id:
        undo = Action(
            "Undo",
            page.action("undo"),
            post=True,
            fields=(("change_id", page.last.change_id),),
            idempotency_key=page.keys["undo"],
        )
    return Notice(State.OK, sentence, undo)


_PATH: Final = f"{paths.CARDS}/{{id_tag}}/edit"
routes = [
    Route(_PATH, signed_in(show), methods=["GET"]),
    *(Route(f"{_PATH}/{section}", signed_in(submit(section), "operator"), methods=["POST"]) for section in SECTIONS),
]
