"""Chargers from the command line."""

from typing import Final
from urllib.parse import quote

from services.admin_api.cli import show
from services.admin_api.cli.client import Api, Json
from services.admin_api.cli.errors import COULD_NOT_ASK, FINDING, FINE
from services.admin_api.cli.typed import asks, parameters, sure
from shared.contracts.configuration import told_parameters

# The API waits 35 s for sync, and sync 30 s for the charger.
PATIENCE_S: Final = 45.0
HARMLESS: Final = {"GetConfiguration", "TriggerMessage"}
OUTCOMES: Final = {
    "accepted": ("ok", FINE),
    "rejected": ("wrong", FINDING),
    "not_connected": ("wrong", FINDING),
    "failed": ("wrong", FINDING),
    "unknown": ("unknown", COULD_NOT_ASK),
}
_READY: Final = {"yes": "ok", "no": "attention", "unknown": "unknown"}


def listed(text: str | None, *, connected: bool | None, ready: str | None, limit: int, as_json: bool) -> int:
    online = None if connected is None else str(connected).lower()
    with Api() as api:
        items = list(api.pages("/chargers", limit, q=text, connected=online, ready=ready))
    if as_json:
        show.as_json(items)
        return FINE
    rows = [
        (
            each["charge_box_id"],
            _connection(each),
            ", ".join(f"{c['connector_id']} {c['state']['status']}" for c in each["connectors"] if c["connector_id"]),
            show.Cell(each["readiness"]["ready"], _READY[each["readiness"]["ready"]]),
            show.moment(each["last_seen_at"]),
        )
        for each in items
    ]
    empty = "No charger fits. One appears here when it comes through the gateway, or a card is tapped there."
    show.table(["charger", "connection", "connectors", "tap-to-login", "last seen"], rows, empty=empty)
    return FINE


def shown(charger: str, *, as_json: bool) -> int:
    """Exit code 0: nothing is wrong with it, 1: offline or faulted."""
    with Api() as api:
        found = api.get(f"/chargers/{quote(charger, safe='')}")
    faulted = [each for each in found["connectors"] if each["state"]["status"] == "Faulted"]
    code = FINDING if found["connected"] is False or faulted else FINE
    if as_json:
        show.as_json(found)
        return code
    ready = found["readiness"]
    model = " ".join(each for each in (found["vendor"], found["model"]) if each)
    firmware = " ".join(each for each in (found["firmware_version"], found["firmware_status"]) if each)
    show.facts(
        [
            ("charger", found["charge_box_id"]),
            ("connection", _connection(found)),
            ("seen", show.moment(found["last_seen_at"])),
            ("heartbeat", show.moment(found["last_heartbeat_at"]) or "none seen"),
            ("model", model or "not told"),
            ("firmware", firmware or "not told"),
            ("tap-to-login", show.Cell(f"{ready['ready']}: {ready['reason']}", _READY[ready["ready"]])),
            *((f"  {name}", value) for name, value in ready["keys"].items()),
            ("stays off when told Blocked", _honours(found["honours_override"])),
        ]
    )
    if found["connectors"]:
        rows = [
            (
                each["connector_id"] or "whole",
                show.Cell(each["state"]["status"], "wrong" if each in faulted else ""),
                "" if each["state"]["error_code"] == "NoError" else each["state"]["error_code"],
                each["state"]["info"] or "",
                show.moment(each["reported_at"]),
            )
            for each in found["connectors"]
        ]
        show.table(["connector", "status", "error", "says", "reported"], rows, empty="")
    for each in found["open_sessions"]:
        show.plain("charges", f"/{each['connector_id']}", each["id_tag"], show.moment(each["started_at"]))
    return code


def operate(charger: str, operation: str, given: list[str], *, yes: bool, as_json: bool) -> int:
    asked = operation not in HARMLESS and asks(yes=yes)
    body: Json = {"operation": operation, "parameters": parameters(given, asked=asked)}
    told = " ".join([operation, *(f"{name}={value}" for name, value in told_parameters(body["parameters"]).items())])
    if asked:
        sure([f"{charger} is told: {told}. It cannot be taken back."], "Do it?", yes=yes)
    with Api() as api:
        # Never twice: a charger that may have done it is not told again.
        made = api.change(f"/chargers/{quote(charger, safe='')}/operations", body, repeats=0, patience_s=PATIENCE_S)
    state, code = OUTCOMES[made["outcome"]]
    if as_json:
        show.as_json(made)
        return code
    facts: list[tuple[str, object]] = [
        ("charger", made["charge_box_id"]),
        ("outcome", show.Cell(made["outcome"], state)),
    ]
    if made["problem"]:
        facts.append(("why", made["problem"]))
    response = dict(made["response"])
    facts += [(str(key.get("key")), key.get("value")) for key in response.pop("configurationKeys", [])]
    facts += [(name, value) for name, value in response.items() if value]
    show.facts(facts)
    return code


def qr(charger: str, *, rotate: bool, svg: bool, yes: bool, as_json: bool) -> int:
    path = f"/chargers/{quote(charger, safe='')}/qr"
    with Api() as api:
        if rotate:
            sure([f"The QR codes printed for {charger} open nothing any more."], "Make a new one?", yes=yes)
            made = api.change(path)
        else:
            made = api.get(path)
    if as_json:
        show.as_json(made)
    elif svg:
        show.raw(made["svg"])
    else:
        show.facts(
            [
                ("charger", made["charge_box_id"]),
                ("address", made["address"]),
                ("made", show.moment(made["rotated_at"])),
            ]
        )
    return FINE


def _connection(charger: Json) -> show.Cell:
    how = "through the gateway" if charger["via_gateway"] else "not through the gateway"
    if charger["connected"] is None:
        return show.Cell(f"not known, {how}", "unknown")
    if charger["connected"]:
        return show.Cell(f"connected, {how}", "ok")
    since = show.moment(charger["disconnected_at"])
    return show.Cell(f"disconnected{f' since {since}' if since else ''}", "wrong")


def _honours(state: str) -> show.Cell:
    words = {
        "yes": ("yes", "ok"),
        "no": ("no, it charged all the same", "wrong"),
        "unknown": ("not seen yet", "unknown"),
    }
    return show.Cell(*words[state])
