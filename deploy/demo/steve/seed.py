"""Tags and chargers from a JSON file.

{"tags": [{"id_tag": "04A1B2C3", "limit": 1, "parent_id_tag": null, "expiry": null, "note": null,
           "user_pk": null}],
 "chargers": [{"charge_box_id": "CP-1", "password": null, "registration": "Accepted"}]}
"""

from datetime import datetime
from pathlib import Path

import msgspec

from deploy.demo.steve.state import SteveState


class SeedTag(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    id_tag: str
    parent_id_tag: str | None = None
    expiry: datetime | None = None
    limit: int = 1
    note: str | None = None
    user_pk: int | None = None


class SeedCharger(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    charge_box_id: str
    password: str | None = None
    registration: str = "Accepted"


class Seed(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    tags: list[SeedTag] = msgspec.field(default_factory=list)
    chargers: list[SeedCharger] = msgspec.field(default_factory=list)


def read_seed(file: Path) -> Seed:
    """ValueError with the file's name when it is not such a file."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Seed)
    except msgspec.DecodeError as error:
        raise ValueError(f"{file} cannot be read as tags and chargers: {error}") from error


def apply_seed(state: SteveState, seed: Seed) -> None:
    """Add what is missing; a tag that is there already stays as it is. Parents may come after their children."""
    with state.batch():
        for charger in seed.chargers:
            state.add_charger(charger.charge_box_id, password=charger.password, registration=charger.registration)
        added = [tag for tag in seed.tags if state.tag(tag.id_tag) is None]
        for tag in added:
            state.add_tag(tag.id_tag, expiry=tag.expiry, limit=tag.limit, note=tag.note, user_pk=tag.user_pk)
        for tag in added:
            kept = state.tag(tag.id_tag)
            if kept is not None and tag.parent_id_tag is not None:
                state.replace_tag(
                    kept.pk,
                    parent_id_tag=tag.parent_id_tag,
                    expiry=kept.expiry,
                    limit=kept.limit,
                    note=kept.note,
                )
