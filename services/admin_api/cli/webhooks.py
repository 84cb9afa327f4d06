"""Lago's webhooks from the command line."""

from services.admin_api.cli import show
from services.admin_api.cli.client import Api
from services.admin_api.cli.errors import FINDING, FINE


def shown(*, as_json: bool) -> int:
    """Exit code 0: all were acted on or wait, 1: some could not be."""
    with Api() as api:
        found = api.get("/webhooks")
    if as_json:
        show.as_json(found)
        return FINDING if found["failed"] else FINE
    failed = show.Cell(str(found["failed"]), "attention" if found["failed"] else "")
    show.facts(
        [
            ("newest", show.moment(found["received_at"]) or "none ever came"),
            ("waiting", found["waiting"]),
            ("failed", failed),
        ]
    )
    if found["newest_failed"]:
        rows = [
            (each["unique_key"], each["webhook_type"], show.moment(each["received_at"]), each["why"])
            for each in found["newest_failed"]
        ]
        show.table(["key", "type", "received", "why it failed"], rows, empty="")
        show.say("Nothing is lost: polling finds what they told. `expressync sync webhooks --replay` tries again.")
    return FINDING if found["failed"] else FINE


def replay(keys: list[str], *, as_json: bool) -> int:
    """Exit code 0: all of them wait to be acted on again, 1: some are not known."""
    with Api() as api:
        made = api.change("/webhooks/replay", {"unique_keys": keys, "failed": not keys})
    if as_json:
        show.as_json(made)
    else:
        show.facts([("replayed", made["replayed"]), *(("not known", key) for key in made["unknown"])])
    return FINDING if made["unknown"] else FINE
