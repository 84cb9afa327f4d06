"""Commands that read: cards, sessions, taps, audit entries."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from services.admin_api import aftermath
from services.admin_api.cli import show
from services.admin_api.cli.client import Api, Json
from services.admin_api.cli.errors import FINDING, FINE, CliError, Refused
from services.admin_api.cli.times import instant

POLL_S: Final = 1.0
# Taps are journalled with the time at which they came, but not in its order: those that the database had missed come
# after an outage of another process.
OVERLAP: Final = timedelta(minutes=10)
# An answer is written down right after the tap.
HELD_S: Final = 1.0

TAP_COLUMNS = ["tapped", "card", "charger", "kind", "decision", "told", "why", "then"]


def cards(text: str | None, *, linked: bool | None, limit: int, as_json: bool) -> int:
    query = {"q": text, "linked": None if linked is None else str(linked).lower()}
    with Api() as api:
        items = list(api.pages("/cards", limit, **query))
    if as_json:
        show.as_json(items)
        return FINE
    rows = [
        (
            card["id_tag"],
            card["display_name"],
            card["card_type"],
            _in_steve(card["steve"]),
            card["link"]["external_customer_id"] if card["link"] else show.Cell("not linked", "attention"),
            card["link"]["external_subscription_id"] if card["link"] else "",
        )
        for card in items
    ]
    columns = ["card", "name", "type", "SteVe", "customer", "subscription"]
    show.table(columns, rows, empty="No card fits. Cards appear here as soon as SteVe answers.")
    return FINE


def card(id_tag: str, *, as_json: bool) -> int:
    """Exit code as of `diagnose`, whose verdict stands on top."""
    from services.admin_api.cli.diagnose import exit_code  # noqa: PLC0415 - only here

    with Api() as api:
        found = api.get(f"/cards/{quote(id_tag, safe='')}")
    verdict = found["diagnosis"]["verdict"]
    if as_json:
        show.as_json(found)
        return exit_code(verdict["code"])
    show.facts(
        [
            ("card", found["id_tag"]),
            ("verdict", verdict["sentence"]),
            ("what to do", verdict["remedy"]),
            ("name", _of(found["card"], lambda known: (known or {}).get("display_name") or "no name")),
            ("SteVe", _of(found["steve"], lambda steve: _in_steve(steve["card"]))),
            ("linked", _of(found["card"], lambda known: _applies(known, found["above"]))),
            ("parents", _of(found["card"], _parents)),
        ]
    )
    if found["sessions"]["answered"]:
        _sessions(found["sessions"]["value"])
    return exit_code(verdict["code"])


def _parents(known: Json | None) -> show.Cell | str:
    """The parent, its parent and so on; that they run in a circle stands before them."""
    if known is None:
        return ""
    way = " → ".join(known["ancestors"]) or "none"
    return (
        show.Cell(f"in a circle, which is not followed: {way} and round again", "wrong")
        if known["parent_cycle"]
        else way
    )


def sessions(*, card: str | None, charger: str | None, billing: str | None, limit: int, as_json: bool) -> int:
    with Api() as api:
        items = list(api.pages("/sessions", limit, card=card, charger=charger, billing=billing))
    if as_json:
        show.as_json(items)
    else:
        _sessions(items)
    return FINE


def taps(*, limit: int, follow: bool, as_json: bool, **sought: str | None) -> int:
    """`sought`: what `GET /taps` filters by."""
    for name in ("since", "until"):
        sought[name] = instant(sought.get(name), f"--{name}")
    with Api() as api:
        pages = list(api.whole_pages("/taps", limit, **sought))
        items = [tap for page in pages for tap in page["items"]]
        if follow:
            return _follow(api, items, [gap for page in pages for gap in page["gaps"]], sought, as_json=as_json)
    if as_json:
        show.as_json(items)
    else:
        empty = "No tap fits. A tap appears when a card touches a charger that goes through ExpresSync."
        show.table(TAP_COLUMNS, [_tap(tap) for tap in items], empty=empty)
    for gap in (gap for page in pages for gap in page["gaps"]):
        _say_gap(gap)
    return FINE


def audit(*, subject: str | None, type_: str | None, actor: str | None, limit: int, as_json: bool) -> int:
    kind, _, name = (actor or "").partition("/")
    query = {"subject": subject, "type": type_, "actor_kind": kind or None, "actor_id": name or None}
    with Api() as api:
        items = list(api.pages("/audit/entries", limit, **query))
    if as_json:
        show.as_json(items)
        return FINE
    rows = [
        (show.moment(e["time"]), e["type"], e["subject"], f"{e['actor_kind']}/{e['actor_id']}", e["event_id"])
        for e in items
    ]
    show.table(["time", "type", "subject", "actor", "event"], rows, empty="No entry fits these filters.")
    return FINE if items else FINDING


def _follow(api: Api, shown: list[Json], gaps: list[Json], sought: dict[str, str | None], *, as_json: bool) -> int:
    """Print taps as they come, until Ctrl-C, also past an outage. What is new goes by the journal's own times, not by
    this machine's.

    A tap is held back for a moment until its answer is known; one that is printed without is printed again with it.
    """
    seen: dict[str, tuple[datetime, bool]] = {}
    told_gaps: list[Json] = []
    noticed: dict[str, float] = {}

    def look(taps: list[Json], gaps: list[Json], *, hold_s: float) -> None:
        for tap in sorted(taps, key=lambda tap: str(tap["tapped_at"])):
            tap_id, answered = tap["tap_id"], tap["told"] is not None
            if tap_id in seen and (seen[tap_id][1] or not answered):
                continue
            if not answered and time.monotonic() - noticed.setdefault(tap_id, time.monotonic()) < hold_s:
                continue
            noticed.pop(tap_id, None)
            seen[tap_id] = datetime.fromisoformat(tap["tapped_at"]), answered
            _print_tap(tap, as_json=as_json)
        for gap in gaps:
            if gap not in told_gaps:
                told_gaps.append(gap)
                _say_gap(gap)

    since = sought["since"] or (datetime.now(UTC) - OVERLAP).isoformat()
    look(shown, gaps, hold_s=0)
    journal = _Journal(api, sought)
    try:
        while True:
            time.sleep(POLL_S)
            if seen:
                oldest = max(at for at, _ in seen.values()) - OVERLAP
                since = oldest.isoformat()
                seen = {tap_id: (at, answered) for tap_id, (at, answered) in seen.items() if at >= oldest}
            pages = journal.since(since)
            look(
                [tap for page in pages for tap in page["items"]],
                [gap for page in pages for gap in page["gaps"]],
                hold_s=HELD_S,
            )
    except KeyboardInterrupt:
        return FINE


class _Journal:
    """Pages of taps, asked for again and again: none while nobody answers, which is said once."""

    def __init__(self, api: Api, sought: dict[str, str | None]) -> None:
        self._api, self._sought, self._away = api, sought, False

    def since(self, since: str) -> list[Json]:
        """:raises Refused: where asking again is of no use."""
        try:
            pages = list(self._api.whole_pages("/taps", 1000, **{**self._sought, "since": since}))
        except CliError as error:
            if isinstance(error, Refused) and error.status < 500:
                raise
            if not self._away:
                show.say(f"{error.what} {error.why} This command keeps asking.")
            self._away = True
            return []
        self._away = False
        return pages


def _say_gap(gap: Json) -> None:
    between = f"{show.moment(gap['first_at'])} to {show.moment(gap['last_at'])}"
    show.say(f"{between}: {aftermath.of_gap(gap['taps'], gap['why'])}")


def _print_tap(tap: Json, *, as_json: bool) -> None:
    if as_json:
        show.as_json(tap, line=True)
    else:
        show.plain(*_tap(tap))


def _tap(tap: Json) -> tuple[object, ...]:
    where = f"{tap['charge_box_id']} /{tap['connector_id']}" if tap["connector_id"] else tap["charge_box_id"]
    why = tap.get("explanation") or tap["reason"]
    then = aftermath.of_tap(tap["session"], tap["session_outcome"], tap["override_outcome"])
    return (show.moment(tap["tapped_at"]), tap["id_tag"], where, tap["kind"], tap["decision"], tap["told"], why, then)


def _sessions(items: list[Json]) -> None:
    rows = [
        (
            show.moment(s["started_at"]),
            s["id_tag"],
            f"{s['charge_box_id']} /{s['connector_id']}",
            show.kwh(s["energy_wh"]),
            s["stop_reason"] or ("charging now" if s["stopped_at"] is None else ""),
            _billing(s["billing"]),
            s["session"],
        )
        for s in items
    ]
    columns = ["started", "card", "charger", "kWh", "ended", "billing", "session"]
    show.table(columns, rows, empty="No session fits.", right=["kWh"])


def _billing(billing: Json) -> show.Cell:
    states = {"counted": "ok", "synced": "ok", "held": "attention"}
    reason = f": {billing['reason']}" if billing.get("reason") else ""
    return show.Cell(f"{billing['state']}{reason}", states.get(billing["state"], ""))


def _in_steve(tag: Json | None) -> show.Cell:
    if tag is None:
        return show.Cell("not in SteVe", "wrong")
    if tag["blocked"]:
        return show.Cell("blocked", "wrong")
    if tag["expiry"] and datetime.fromisoformat(tag["expiry"]) <= datetime.now(UTC):
        return show.Cell("expired", "wrong")
    return show.Cell("accepted", "ok")


def _applies(known: Json | None, above: Json | None) -> show.Cell | str:
    """The card's own link, or else that of the nearest card above it."""
    linked = above["value"] if above is not None and above["answered"] else None
    if linked is None:
        return _link((known or {}).get("link"))
    return f"{_link(linked['link'])}, through {linked['id_tag']}"


def _link(link: Json | None) -> show.Cell | str:
    if link is None:
        return show.Cell("not linked", "attention")
    return f"{link['external_customer_id']} → {link['external_subscription_id']}"


def _of(part: Json, words: Callable[[Any], object]) -> object:
    """What an answered part says; silence looks like silence."""
    return words(part["value"]) if part["answered"] else show.Cell(f"{part['who']} did not answer", "unknown")
