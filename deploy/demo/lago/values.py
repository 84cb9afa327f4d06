"""How Lago reads and writes instants and numbers.

Instants are integer microseconds since the epoch. `datetime` ends in the year 9999, while an event sent
in epoch milliseconds is accepted and lands in the year 54295 (facts: Events), so they are written by hand.
"""

import re
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

SECOND: Final = 1_000_000  # microseconds
DAY: Final = 86_400 * SECOND  # microseconds

# PostgreSQL's timestamp ends here (year 294276); an insert beyond it fails inside the database.
LAST_INSTANT: Final = 9_224_318_016_000 * SECOND - 1  # microseconds

_UNIX_SECONDS: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_COUNTED_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")


class InvalidFormatError(ValueError):
    """A timestamp that Lago answers with 422 `invalid_format`."""


def read_timestamp(value: object) -> int:
    """Unix seconds, a JSON number or a decimal string, as microseconds (further digits are cut off).

    Raises:
        InvalidFormatError: anything else: ISO 8601, an exponent, spaces, a boolean, an empty string.

    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise InvalidFormatError(str(value))
    text = value if isinstance(value, str) else format(Decimal(str(value)), "f")
    if _UNIX_SECONDS.fullmatch(text) is None:
        raise InvalidFormatError(text)
    whole, _, fraction = text.lstrip("-").partition(".")
    micros = int(whole) * SECOND + int(fraction[:6].ljust(6, "0"))
    return -micros if text.startswith("-") else micros


def read_iso(text: str) -> int:
    """ISO 8601 as microseconds; a date alone is its midnight, no zone is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text.replace(" ", "+"))
    return from_datetime(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def from_datetime(moment: datetime) -> int:
    """A zone-aware moment as microseconds."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds


def to_datetime(micros: int) -> datetime:
    """Microseconds as a moment in UTC. Raises OverflowError or ValueError beyond the year 9999."""
    seconds, rest = divmod(micros, SECOND)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def iso(micros: int) -> str:
    """`2026-05-01T09:30:00Z`, whole seconds, any year."""
    return f"{_date_and_time(micros)}Z"


def iso_millis(micros: int) -> str:
    """`2026-05-01T09:30:00.123Z`, cut off to milliseconds, any year."""
    return f"{_date_and_time(micros)}.{micros % SECOND // 1000:03d}Z"


def iso_date(micros: int) -> str:
    """`2026-05-01`, any year."""
    year, month, day = _civil(micros // DAY)
    return f"{year:04d}-{month:02d}-{day:02d}"


def _date_and_time(micros: int) -> str:
    minutes, seconds = divmod(micros % DAY // SECOND, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{iso_date(micros)}T{hours:02d}:{minutes:02d}:{seconds:02d}"


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar.

    The calendar repeats every 146,097 days (400 years), so any day maps to one `date` can hold.
    """
    cycles, rest = divmod(days + 719_162, 146_097)  # 0001-01-01 is day -719,162
    near = datetime.fromordinal(rest + 1).date()
    return near.year + 400 * cycles, near.month, near.day


def counted_number(value: Any) -> Decimal | None:  # noqa: ANN401
    r"""The number Lago sees in an event's property, or None when it silently skips it (fact 7).

    The text of the property must match `^-?\d+(\.\d+)?$`; a JSON number is first written out in full.
    """
    if isinstance(value, str):
        return Decimal(value) if _COUNTED_NUMBER.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return Decimal(format(Decimal(str(value)), "f"))


def units(number: Decimal) -> str:
    """A number of units as Lago writes it: no exponent, no trailing zeros, at least one decimal."""
    text = format(number, "f")
    whole, _, fraction = text.partition(".")
    whole = "0" if whole == "-0" and not fraction.strip("0") else whole
    return f"{whole}.{fraction.rstrip('0') or '0'}"


def cents(amount: Decimal) -> int:
    """An amount in the currency's unit as integer cents, half away from zero."""
    return int((amount * 100).quantize(Decimal(1), rounding=ROUND_HALF_UP))
