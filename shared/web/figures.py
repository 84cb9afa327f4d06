"""Numbers as people read them, the same on every page. Pure: no locale, no floats."""

from collections.abc import Iterable
from dataclasses import dataclass

THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"
"""Groups thousands as the SI recommends, so that neither a comma nor a point can be misread."""
MINUS = "\N{MINUS SIGN}"


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
