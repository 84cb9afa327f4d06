"""The proof from the command line: SteVe's kWh = ledger = sent = counted by Lago."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from rich.console import Console

from services.admin_api.cli import show
from services.admin_api.cli.client import Api, Json
from services.admin_api.cli.errors import COULD_NOT_ASK, FINDING, FINE

# The API waits a minute for sync, which reads every subscription in Lago.
PATIENCE_S: Final = 75.0
COLUMNS: Final = [
    "subscription",
    "customer",
    "from",
    "to",
    "SteVe",
    "ledger",
    "sent",
    "counted",
    "held",
    "ignored",
    "stands",
]
_PAGE: Final = 50


def reconcile(subscription: str | None, *, stored: bool, differing: bool, limit: int | None, as_json: bool) -> int:
    """Exit code 0: everywhere equal, 1: a difference, 3: somewhere it cannot be told, or `limit` left some out."""
    with Api() as api, _waiting(shown=not stored and not as_json):

        def kept(size: int, cursor: str | None) -> Json:
            only = "true" if differing else None
            return api.get("/reconciliations", subscription=subscription, differing=only, limit=size, cursor=cursor)

        def proven(size: int, cursor: str | None) -> Json:
            body = {"external_subscription_id": subscription, "limit": size, "cursor": cursor}
            return api.post("/reconcile", body, patience_s=PATIENCE_S)

        found, more = _read(kept if stored else proven, limit)
    rows = [row for row in found if not differing or row["equal"] is not True]
    if as_json:
        show.as_json(rows)
    else:
        show.table(COLUMNS, [_row(row) for row in rows], empty="No subscription was ever billed.", right=COLUMNS[4:10])
        for row in rows:
            for difference in row["differences"]:
                show.plain(row["external_subscription_id"], difference["explanation"], difference["proposal"])
    if more:
        show.say(f"There are more than these {limit}: nothing is said of the others. Leave --limit out to have all.")
    equal = {row["equal"] for row in rows}
    if False in equal:
        return FINDING
    return COULD_NOT_ASK if more or None in equal else FINE


def _read(page: Callable[[int, str | None], Json], limit: int | None) -> tuple[list[Json], bool]:
    """The rows, at most `limit`, and whether there are more: one more than that is asked for."""
    rows: list[Json] = []
    cursor = None
    while limit is None or len(rows) <= limit:
        answer = page(_PAGE if limit is None else min(limit + 1 - len(rows), _PAGE), cursor)
        rows += answer["items"]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    return rows[:limit], limit is not None and len(rows) > limit


def _row(row: Json) -> tuple[object, ...]:
    words = {True: ("ok", "equal"), False: ("wrong", "differs"), None: ("unknown", "cannot be told")}
    state, word = words[row["equal"]]
    return (
        row["external_subscription_id"],
        row["external_customer_id"],
        show.moment(row["period_from"]),
        show.moment(row["period_to"]),
        show.kwh(row["steve_wh"]),
        show.kwh(row["ledger_wh"]),
        show.kwh(row["sent_wh"]),
        show.kwh(row["counted_wh"]),
        show.kwh(row["held_wh"]),
        show.kwh(row["ignored_wh"]),
        show.marked(state, f"{word}: {row['problem']}" if row["problem"] else word),
    )


def _waiting(*, shown: bool) -> AbstractContextManager[object]:
    return Console(stderr=True).status("Reading SteVe and Lago …") if shown and show.on_terminal() else nullcontext()
