"""Values as people read them. Pure: no clock, no locale, no I/O, no floats.

Times are written in UTC here; the browser rewrites them in the reader's zone (`static/js/time.js`).
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"
"""Groups thousands as the SI recommends, so that neither a comma nor a point can be misread."""
MINUS = "\N{MINUS SIGN}"
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400


@dataclass(frozen=True, slots=True)
class Total:
    """A sum of energies in Wh, as kWh with one decimal.

    `rows_differ` is true when adding up the rounded rows on the screen gives another figure, so that the
    page can say so instead of looking wrong.
    """

    kwh: str
    wh: int
    rows_differ: bool


def kwh(wh: int) -> str:
    """Energy in integer Wh as kWh with one decimal, halves away from zero: 12 449 Wh is 12.4, 12 450 is 12.5."""
    tenths = _tenths(wh)
    sign = MINUS if wh < 0 and tenths else ""
    return f"{sign}{grouped(tenths // 10)}.{tenths % 10}"


def exact_wh(wh: int) -> str:
    return f"{grouped(wh)} Wh"


def kwh_total(energies: Iterable[int]) -> Total:
    rows = list(energies)
    wh = sum(rows)
    shown = sum(_tenths(row) if row >= 0 else -_tenths(row) for row in rows)
    exact = _tenths(wh) if wh >= 0 else -_tenths(wh)
    return Total(kwh=kwh(wh), wh=wh, rows_differ=shown != exact)


def _tenths(wh: int) -> int:
    return (abs(wh) + 50) // 100


def grouped(number: int) -> str:
    """An integer with its thousands apart; four digits stay together, as in dates and SI tables."""
    digits = str(abs(number))
    sign = MINUS if number < 0 else ""
    if len(digits) <= 4:
        return sign + digits
    return sign + f"{abs(number):,}".replace(",", THIN_SPACE)


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


def instant(at: datetime) -> str:
    return f"{_utc(at):%Y-%m-%d %H:%M} UTC"


def instant_exact(at: datetime) -> str:
    return f"{_utc(at):%Y-%m-%d %H:%M:%S} UTC"


def iso(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as the events write it."""
    return _utc(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} has no time zone; times are timezone-aware UTC")
    return at.astimezone(UTC)


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
