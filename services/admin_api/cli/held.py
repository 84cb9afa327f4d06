"""The held queue from the command line: what waits, why, and what to do about it."""

from collections.abc import Sequence
from typing import Final

from services.admin_api.cli import show
from services.admin_api.cli.client import Api, Json
from services.admin_api.cli.errors import FINDING, FINE
from services.admin_api.cli.times import exact
from services.admin_api.cli.typed import one_of, sure

COLUMNS: Final = ["session", "card", "charger", "started", "kWh", "at stake", "held since", "reason", "what to do"]


def listed(*, reason: str | None, card: str | None, charger: str | None, limit: int, as_json: bool) -> int:
    """Exit code 0: nothing is held, 1: something is."""
    with Api() as api:
        items = list(api.pages("/held", limit, reason=reason, card=card, charger=charger))
        classes = api.get("/held", limit=1)["classes"] if show.on_terminal() and not as_json else []
    if as_json:
        show.as_json(items)
        return FINDING if items else FINE
    if classes:
        show.table(*class_rows(classes), empty="", right=["sessions", "kWh", "at stake"])
        show.line("")
    rows = [
        (
            each["session"]["session"],
            each["session"]["id_tag"],
            f"{each['session']['charge_box_id']} /{each['session']['connector_id']}",
            show.moment(each["session"]["started_at"]),
            show.kwh(each["energy_wh"]),
            money(each["amount_cents"], each["currency"]),
            show.moment(each["held_at"]),
            show.Cell(each["reason"], "attention"),
            each["remedy"] or each["explanation"],
        )
        for each in items
    ]
    show.table(COLUMNS, rows, empty="Nothing is held: all that ended is billed or on its way.", right=COLUMNS[4:6])
    return FINDING if items else FINE


def retry(sessions: list[str], *, reason: str | None, everything: bool, as_json: bool) -> int:
    one_of("sessions, or --reason, or --all", bool(sessions), reason is not None, everything)
    return _change("retry", {"sessions": sessions, "reason": reason, "everything": everything}, as_json=as_json)


def ignore(sessions: list[str], *, note: str, yes: bool, as_json: bool) -> int:
    consequences = [
        f"Not billed: {', '.join(sessions)}.",
        "Should SteVe record other energy later, they are held again; `expressync sync retry SESSION` takes it back.",
    ]
    sure(consequences, "Ignore them?", yes=yes)
    return _change("ignore", {"sessions": sessions, "note": note}, as_json=as_json)


def release(
    sessions: list[str],
    *,
    card: str | None,
    since: str | None,
    change_owner: bool,
    note: str | None,
    yes: bool,
    as_json: bool,
) -> int:
    one_of("sessions, or --card with --since", bool(sessions), card is not None and since is not None)
    what = ", ".join(sessions) or f"sessions of {card} that began at or after {since}"
    consequences = [f"Billed as they are: {what}.", "What Lago has counted is not taken back."]
    if change_owner:
        consequences.append("Those of another customer are billed to whom their card is linked to now.")
    sure(consequences, "Release them?", yes=yes)
    when = exact(since, "--since") if since is not None else None
    body = {"sessions": sessions, "card": card, "since": when, "change_owner": change_owner, "note": note}
    return _change("release", body, as_json=as_json)


def class_rows(classes: list[Json]) -> tuple[list[str], list[Sequence[object]]]:
    """Columns and rows of the queue by reason."""
    rows: list[Sequence[object]] = [
        (
            show.Cell(each["reason"], "attention"),
            each["count"],
            show.kwh(each["energy_wh"]),
            " + ".join(money(one["cents"], one["currency"]) for one in each["amounts"]),
            show.moment(each["oldest_at"]),
            each["remedy"] or "",
        )
        for each in classes
    ]
    return ["held for", "sessions", "kWh", "at stake", "oldest", "what to do"], rows


def money(cents: int | None, currency: str | None) -> str:
    """An amount in its unit; empty where no price is known."""
    if not cents:
        return ""
    units, rest = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{units}.{rest:02} {currency or ''}".rstrip()


def _change(what: str, body: Json, *, as_json: bool) -> int:
    """Exit code 0: all were taken up, 1: some were refused."""
    with Api() as api:
        made = api.change(f"/held/{what}", body)
    if as_json:
        show.as_json(made)
    else:
        moved = {each["session"]: each for each in made.get("owners_changed", ())}
        for session in made["sessions"]:
            show.plain(session, what, *_moved(moved.get(session)))
        for session, why in made["refused"].items():
            show.plain(session, "refused", why)
        if not made["sessions"] and not made["refused"]:
            show.say("Nothing is held that fits.")
        if (unnamed := made["count"] - len(made["sessions"])) > 0:
            show.say(f"And {unnamed} more: {made['count']} sessions in all.")
    return FINDING if made["refused"] else FINE


def _moved(moved: Json | None) -> list[str]:
    if moved is None:
        return []
    return [f"to {moved['external_customer_id']}, it was {moved['previous_external_customer_id']}'s"]
