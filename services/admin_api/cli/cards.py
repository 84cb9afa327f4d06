"""Commands that change cards. Each shows the card as it then is, and how to take the change back."""

import sys
from typing import Any
from urllib.parse import quote

import typer

from services.admin_api.cli import show
from services.admin_api.cli.client import Api, Json
from services.admin_api.cli.errors import FINDING, FINE, USAGE, CliError
from services.admin_api.cli.times import exact, instant
from services.admin_api.cli.typed import one_of, sure
from services.admin_api.console import format as fmt


def create(body: Json, *, expiry: str | None, as_json: bool) -> int:
    expires = exact(expiry, "--expiry") if expiry is not None else None
    with Api() as api:
        return _shown(api.change("/cards", {**body, "expiry": expires}), as_json=as_json)


def change(card: str, changes: dict[str, Any], *, as_json: bool) -> int:
    if not changes:
        raise CliError(
            "Nothing was given to change.", "A field that is not named stays.", "See --help for fields.", code=USAGE
        )
    with Api() as api:
        return _shown(api.change(_path(card), changes, method="PATCH"), as_json=as_json)


def block(card: str, *, reason: str, yes: bool, as_json: bool) -> int:
    consequences = [
        f"SteVe will refuse {card} at every charger, whatever its parent or subscription allows.",
        "A session that runs goes on. The limit it has is remembered; `expressync card unblock` restores it.",
    ]
    sure(consequences, "Block it?", yes=yes)
    return _change(card, "block", {"reason": reason}, as_json=as_json)


def unblock(card: str, *, limit: int | None, as_json: bool) -> int:
    return _change(card, "unblock", {"limit": limit}, as_json=as_json)


def parent(card: str, wanted: str | None, *, none: bool, as_json: bool) -> int:
    one_of("a parent, or --none", wanted is not None, none)
    return _change(card, "parent", {"parent_id_tag": wanted}, as_json=as_json)


def expiry(card: str, wanted: str | None, *, never: bool, as_json: bool) -> int:
    one_of("a time, or --never", wanted is not None, never)
    return _change(card, "expiry", {"expiry": exact(wanted, "time") if wanted is not None else None}, as_json=as_json)


def unlink(card: str, *, until: str | None, yes: bool, as_json: bool) -> int:
    consequences = [
        f"Sessions of {card} that start after {until or 'now'} will be held, unless a parent is linked.",
        "Those that have begun stay with their owner. `expressync card undo` takes it back.",
    ]
    sure(consequences, "End the link?", yes=yes)
    return _change(card, "unlink", {"valid_to": instant(until, "--to")}, as_json=as_json)


def undo(card: str, change_id: str | None, *, yes: bool, as_json: bool) -> int:
    with Api() as api:
        if change_id is None:
            found = api.get(_path(card))["card"]
            known = found["value"] if found["answered"] else None
            if known is None or known["last_change_id"] is None:
                why = "ExpresSync has changed nothing on it." if found["answered"] else f"{found['who']} was silent."
                raise CliError(f"{card} has no change to undo.", why, "Nothing was changed.", code=FINDING)
            change_id = str(known["last_change_id"])
        sure([f"The change {change_id} of {card} is taken back."], "Undo it?", yes=yes)
        return _shown(api.change(f"/changes/{quote(change_id, safe='')}/undo"), as_json=as_json)


def pin(card: str, *, clear: bool, as_json: bool) -> int:
    wanted = None
    if not clear:
        if sys.stdin.isatty():
            wanted = str(typer.prompt("PIN", hide_input=True, confirmation_prompt=True, err=True))
        else:
            wanted = sys.stdin.readline().strip()
    with Api() as api:
        made = api.change(f"{_path(card)}/pin", {"pin": wanted}, method="PUT")
    if as_json:
        show.as_json(made)
    else:
        show.facts([("card", made["id_tag"]), ("PIN", "set" if made["has_pin"] else "none")])
    return FINE


def _path(card: str) -> str:
    return f"/cards/{quote(card, safe='')}"


def _change(card: str, what: str, body: Json, *, as_json: bool) -> int:
    with Api() as api:
        return _shown(api.change(f"{_path(card)}/{what}", body), as_json=as_json)


def _shown(card: Json, *, as_json: bool) -> int:
    if as_json:
        show.as_json(card)
        return FINE
    steve, link = card["steve"], card["link"]
    limit = fmt.tag_limit(steve["max_active_transaction_count"]) if steve else "not in SteVe"
    by = ""
    if card["block_kind"] and steve:
        who, why = card["blocked_by"], card["block_reason"]
        # It is noted before it is written.
        by = f", blocked by {who}: {why}"
        if not steve["blocked"]:
            by = f"; {who} wanted it blocked ({why}), and SteVe does not have it so"
    show.facts(
        [
            ("card", card["id_tag"]),
            ("name", card["display_name"] or "no name"),
            ("active", "yes" if card["active"] else show.Cell("no", "attention")),
            ("limit", show.Cell(limit + by, "wrong" if steve is None or steve["blocked"] else "")),
            ("expiry", show.moment(steve["expiry"]) or "never" if steve else ""),
            ("parent", steve["parent_id_tag"] or "none" if steve else ""),
            ("linked", f"{link['external_customer_id']} → {link['external_subscription_id']}" if link else "to nobody"),
        ]
    )
    if card["last_change_id"]:
        show.say(f"`expressync card undo {card['id_tag']}` takes it back.")
    return FINE
