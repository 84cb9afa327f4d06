"""Editing a card: plain, blocked in each way, with a fault, silent, for a viewer, overlong."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from services.admin_api.console.view.cards import Steve
from services.admin_api.console.view.edits import SECTIONS, Block, EditPage, Fault, LastChange
from services.admin_api.console.view.frame import Notice
from services.admin_api.console.view.state import Action, State
from tests.browser.samples.base import ALL_ROOMS, FRAME, Sample, ago
from tests.browser.samples.cards import UNLINKED
from tests.browser.samples.parts import BLOCKED, CARD, LONG_TAG, RECORD

KEPT = {
    "display_name": "Pool car 3",
    "cardholder": "Ada Lovelace",
    "card_type": "ev_card",
    "active": "1",
    "notes": "Hangs behind the desk.",
    "parent": "META-ADA",
    "expiry": "",
    "reason": "",
    "limit": "",
}
LAST = LastChange("0196894e", "Card parent changed", "parent: none → META-ADA", "Operator m", ago(m=12))
PAGE = EditPage(
    card=CARD,
    block=None,
    limit="1 session at once",
    last=LAST,
    kept=KEPT,
    typed=KEPT,
    may_edit=True,
    keys=dict.fromkeys(SECTIONS, "a-key"),
)


def blocked(kind: str, by: str = "", reason: str = "", at: datetime | None = None, remembered: str = "") -> EditPage:
    return replace(PAGE, card=BLOCKED, block=Block(kind, reason, by, at, remembered))  # type: ignore[arg-type]


def edits() -> Iterator[Sample]:
    frame = FRAME.at("cards")
    undo = Action("Undo", PAGE.action("undo"), post=True, idempotency_key="k")
    notice = Notice(State.OK, "04A1B2C3D4 is blocked: SteVe refuses it from the next tap on.", undo)
    lost = blocked("operator", "ada", "Reported lost by its holder", ago(m=2), "1 session at once")
    yield Sample("edit", "cards/edit.html", frame, PAGE)
    yield Sample("edit-blocked", "cards/edit.html", frame.at("cards", notice=notice), lost)
    wanted = replace(PAGE, wanted=lost.block, typed={**KEPT, "reason": "Reported lost by its holder"})
    yield Sample("edit-block-not-so", "cards/edit.html", frame, wanted)
    yield Sample("edit-blocked-in-steve", "cards/edit.html", frame, blocked("steve"))
    yield Sample("edit-blocked-by-policy", "cards/edit.html", frame, blocked("policy", reason="it is linked to nobody"))
    unlinked = replace(PAGE, card=replace(UNLINKED, steve=CARD.steve), last=None)
    yield Sample("edit-unlinked", "cards/edit.html", frame, unlinked)
    passed = "2026-04-01 00:00 UTC has passed. To stop a card now, block it."
    yield Sample(
        "edit-refused",
        "cards/edit.html",
        frame,
        replace(PAGE, typed={**KEPT, "expiry": "2026-04-01T00:00"}, fault=Fault("expiry", passed)),
    )
    unknown = "Sync did not answer, so it is not known whether this was done. Send it again: it is done once."
    yield Sample(
        "edit-unknown",
        "cards/edit.html",
        frame,
        replace(PAGE, typed={**KEPT, "reason": "lost"}, fault=Fault("block", unknown, unknown=True)),
    )
    silent = replace(
        PAGE, card=replace(CARD, steve=Steve("silent", RECORD)), last=LastChange("0196894e"), wanted=lost.block
    )
    yield Sample("edit-silent", "cards/edit.html", frame, silent)
    yield Sample("edit-viewer", "cards/edit.html", frame, replace(PAGE, may_edit=False))
    long = dict.fromkeys(("display_name", "cardholder", "notes"), "Donaudampfschifffahrtsgesellschaft " * 5)
    yield Sample(
        "edit-long",
        "cards/edit.html",
        replace(frame, rooms=ALL_ROOMS),
        replace(
            lost,
            card=replace(BLOCKED, id_tag=LONG_TAG, display_name="W" * 60),
            block=Block("operator", "W" * 200, "W" * 60, ago(m=2), "1 session at once"),
            kept={**KEPT, **long, "parent": LONG_TAG},
            typed={**KEPT, **long, "parent": LONG_TAG},
        ),
    )
