"""The edit page from sync's, SteVe's and audit's answers, and what each change did in a sentence."""

from dataclasses import replace
from datetime import UTC, datetime

from services.admin_api.answers import Part, Silent
from services.admin_api.console import format as fmt
from services.admin_api.console.drawing import cards, events
from services.admin_api.console.view.cards import Steve
from services.admin_api.console.view.edits import Block, EditPage, LastChange
from services.admin_api.console.view.timeline import of_entry
from services.admin_api.diagnosis.model import SteveNow
from shared.contracts.requests.audit import EntryView
from shared.contracts.requests.sync import CardView


def page(view: CardView, steve: Part[SteveNow], changes: Part[list[EntryView]], *, may_edit: bool) -> EditPage:
    card = cards.with_steve(view, steve)
    record = card.steve.record
    block, wanted = _blocks(view, card.steve)
    kept = {
        "display_name": view.display_name or "",
        "cardholder": view.cardholder or "",
        "card_type": view.card_type,
        "active": "1" if view.active else "",
        "notes": view.notes or "",
        "parent": record.parent_id_tag if record is not None else "",
        "expiry": field_of(record.expiry) if record is not None and record.expiry is not None else "",
        "reason": wanted.reason if wanted is not None and wanted.kind == "operator" else "",
        "limit": "",
    }
    return EditPage(
        card=card,
        block=block,
        limit=fmt.tag_limit(record.max_active_transaction_count) if record is not None else "",
        last=_last(view, changes),
        kept=kept,
        typed=kept,
        may_edit=may_edit,
        wanted=wanted,
    )


def typed_over(made: EditPage, typed: dict[str, str]) -> EditPage:
    """The same with what somebody typed, which a fault must not lose."""
    return replace(made, typed={**made.typed, **typed})


def field_of(at: datetime) -> str:
    """An instant as the browser's date field takes it: UTC, to the minute."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")


def done(what: str, view: CardView) -> str:
    """What a change did, as the card now stands; empty for what is no change."""
    steve, name = view.steve, view.id_tag
    if what == "parent":
        parent = steve.parent_id_tag if steve is not None else None
        return f"{name} now stands under {parent}." if parent else f"{name} stands under no card any more."
    if what == "expiry":
        expiry = steve.expiry if steve is not None else None
        return f"{name} expires at {fmt.instant(expiry)}." if expiry else f"{name} does not expire any more."
    return {
        "block": f"{name} is blocked: SteVe refuses it from the next tap on.",
        "unblock": f"{name} is unblocked: SteVe accepts it from the next tap on.",
        "unlink": f"{name} is linked to nobody: sessions that start from now on are held, unless a parent is linked.",
        "local": f"What is kept of {name} here is changed.",
        "undo": f"The last change of {name} is undone.",
    }.get(what, "")


def _blocks(view: CardView, steve: Steve) -> tuple[Block | None, Block | None]:
    """The block that there is, and one that was asked for and is not there: it is noted before it is written."""
    remembered = "" if view.remembered_limit is None else fmt.tag_limit(view.remembered_limit)
    ours = None
    if view.block_kind is not None:
        ours = Block(view.block_kind, view.block_reason or "", view.blocked_by or "", view.blocked_at, remembered)
    if steve.answer == "absent":
        return None, None
    if steve.record is None:
        return ours, None
    if steve.record.blocked:
        return ours or Block("steve", remembered=remembered), None
    return None, ours


def _last(view: CardView, changes: Part[list[EntryView]]) -> LastChange | None:
    if view.last_change_id is None:
        return None
    change_id = str(view.last_change_id)
    found = None
    if not isinstance(changes, Silent):
        found = next((each for each in changes.value if each.data.get("change_id") == change_id), None)
    if found is None:
        return LastChange(change_id)
    moment = of_entry(events.entry(found))
    return LastChange(change_id, moment.title, moment.detail, moment.by, moment.at)
