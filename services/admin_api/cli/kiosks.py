"""Kiosks and the kill switch from the command line."""

from typing import Final

from services.admin_api.cli import show
from services.admin_api.cli.client import Api
from services.admin_api.cli.errors import FINDING, FINE, CliError
from services.admin_api.cli.typed import sure

_STATES: Final = {"enrolled": "ok", "waiting": "attention", "lapsed": "unknown", "revoked": "unknown"}


def enrol(name: str, chargers: list[str], *, as_json: bool) -> int:
    with Api() as api:
        made = api.change("/kiosks", {"name": name, "charge_box_ids": chargers})
    if as_json:
        show.as_json(made)
        return FINE
    if made["code"] is None:
        raise CliError(
            f"The code of kiosk {name} is lost.",
            "The answer with it did not arrive, and it is told once.",
            f"Enrol it again, after `expressync kiosk revoke {made['kiosk']['kiosk_id']}`.",
        )
    until = show.moment(made["code_expires_at"])
    show.say(f"Open /kiosk on the screen and type this in before {until}. It is good once, and not shown again.")
    show.plain(made["code"])
    return FINE


def listed(*, as_json: bool) -> int:
    with Api() as api:
        items = api.get("/kiosks")["items"]
    if as_json:
        show.as_json(items)
        return FINE
    rows = [
        (
            each["kiosk_id"],
            each["name"],
            ", ".join(each["charge_box_ids"]),
            show.Cell(each["state"], _STATES[each["state"]]),
            show.moment(each["seen_at"]) or "never",
        )
        for each in items
    ]
    empty = "There is no kiosk. `expressync kiosk enrol NAME CHARGER` makes a screen one."
    show.table(["id", "name", "chargers", "state", "last seen"], rows, empty=empty)
    return FINE


def revoke(kiosk: str, *, yes: bool, as_json: bool) -> int:
    """By id, or by the name of the one in use."""
    with Api() as api:
        found = [each for each in api.get("/kiosks")["items"] if kiosk in (each["kiosk_id"], each["name"])]
        in_use = [each for each in found if each["state"] in ("waiting", "enrolled")] or found
        if len(in_use) != 1:
            why = f"{len(in_use)} kiosks are called so." if in_use else "No id or name is that."
            raise CliError(
                f"{kiosk!r} is not one kiosk.", why, "`expressync kiosk list` lists them by id.", code=FINDING
            )
        sure([f"{in_use[0]['name']} arms nothing any more, until it is enrolled again."], "Revoke it?", yes=yes)
        made = api.change(f"/kiosks/{in_use[0]['kiosk_id']}/revoke")
    if as_json:
        show.as_json(made)
    else:
        show.say(f"{made['name']} is revoked.")
    return FINE


def switch(*, on: bool, charger: str | None, why: str, yes: bool, as_json: bool) -> int:
    where = f"at {charger}" if charger else "everywhere"
    if not on:
        sure([f"Every tap {where} is left to SteVe; nobody can log in with a card there."], "Switch it off?", yes=yes)
    with Api() as api:
        made = api.change("/interception", {"on": on, "charge_box_id": charger, "why": why}, method="PUT")
    if as_json:
        show.as_json(made)
    else:
        off = show.Cell("off", "attention")
        show.facts([("everywhere", "on" if made["everywhere"] else off), *((name, off) for name in made["off_at"])])
    return FINE
