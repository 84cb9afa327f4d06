"""Values as people read them. Pure: no clock, no locale, no I/O, no floats.

Times are written in UTC here; the browser rewrites them in the reader's zone (`static/js/time.js`).
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime

from shared.web.figures import MINUS, THIN_SPACE, Total, exact_wh, grouped, kwh, kwh_total
from shared.web.times import instant, instant_exact, iso

# What all pages write the same way. The console's templates find everything in one place.
__all__ = ["MINUS", "THIN_SPACE", "Total", "exact_wh", "grouped", "instant", "instant_exact", "iso", "kwh", "kwh_total"]

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400


def count(number: int, one: str, many: str | None = None) -> str:
    return f"{grouped(number)} {one if number == 1 else many or one + 's'}"


def age(at: datetime, now: datetime) -> str:
    """How long ago, in the largest whole unit: `4 s`, `12 min`, `3 h`, `5 d`.

    A time after `now` (clocks differ) counts as `0 s`: an age is never negative.
    """
    seconds = max(0, int((now - at).total_seconds()))
    if seconds < MINUTE_S:
        return f"{seconds} s"
    if seconds < HOUR_S:
        return f"{seconds // MINUTE_S} min"
    if seconds < 2 * DAY_S:
        return f"{seconds // HOUR_S} h"
    return f"{seconds // DAY_S} d"


def duration(start: datetime, stop: datetime) -> str:
    """Time between two instants to the minute: `1 h 24 min`, under a minute in seconds; never negative."""
    seconds = max(0, int((stop - start).total_seconds()))
    if seconds < MINUTE_S:
        return f"{seconds} s"
    hours, minutes = seconds // HOUR_S, seconds % HOUR_S // MINUTE_S
    if not hours:
        return f"{minutes} min"
    return f"{grouped(hours)} h {minutes} min" if minutes else f"{grouped(hours)} h"


def milliseconds(ms: int) -> str:
    if ms < 1_000:
        return f"{ms} ms"
    tenths = (ms + 50) // 100
    return f"{grouped(tenths // 10)}.{tenths % 10} s"


def middle(text: str, limit: int = 24) -> str:
    """Keeps both ends of a long identifier, where people look; the middle becomes an ellipsis."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def words(code: str) -> str:
    """A code as words, for values that have no sentence of their own: `meter_went_back`, `EVDisconnected`."""
    parts = re.split(r"[\s_.\-]+", _CAMEL.sub(" ", code))
    return " ".join(part if len(part) > 1 and part.isupper() else part.lower() for part in parts if part)


def sentence(text: str) -> str:
    """The text with a capital first letter; acronyms keep theirs, and idTag is spelled so everywhere."""
    return text if text.startswith("idTag") else text[:1].upper() + text[1:]


def initials(name: str) -> str:
    parts = [part for part in re.split(r"[\s._@\-]+", name.partition("@")[0]) if part]
    return "".join(part[0] for part in parts[:2]).upper() or "?"


def tag_limit(max_active_transaction_count: int) -> str:
    """SteVe's `maxActiveTransactionCount`: 0 blocks, negative is unlimited, n allows n sessions at once."""
    if max_active_transaction_count == 0:
        return "0 (blocked)"
    if max_active_transaction_count < 0:
        return "unlimited"
    return f"{count(max_active_transaction_count, 'session')} at once"


def value(item: object) -> str:
    """A field of an event as text: none for nothing, yes and no for flags, JSON for what has parts."""
    if item is None or item == "":
        return "none"
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, (Mapping, list, tuple)):
        return json.dumps(item, ensure_ascii=False, default=str)
    return str(item)


def field(name: str, item: object) -> tuple[str, str]:
    """A field of an event as its label and its value, with the unit its name carries (`from_wh`, `took_ms`)."""
    stem, _, unit = name.rpartition("_")
    if stem and isinstance(item, int) and not isinstance(item, bool):
        if unit == "wh":
            return label(stem), exact_wh(item)
        if unit == "ms":
            return label(stem), milliseconds(item)
        if unit == "s":
            return label(stem), f"{grouped(item)} s"
    return label(name), value(item)


_LABELS = {
    "charge_box_id": "charger",
    "connector_id": "connector",
    "external_customer_id": "customer",
    "external_subscription_id": "subscription",
    "id_tag": "idTag",
    "max_active_transaction_count": "limit",
    "parent_id_tag": "parent",
    "seq": "number",
}


def label(name: str) -> str:
    """A field's name as people call it."""
    return _LABELS.get(name) or words(name)


def pretty_json(item: object) -> str:
    return json.dumps(item, ensure_ascii=False, indent=2, default=str)
