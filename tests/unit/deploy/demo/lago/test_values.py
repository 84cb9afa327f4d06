from decimal import Decimal

import pytest

from deploy.demo.lago.values import (
    InvalidFormatError,
    cents,
    counted_number,
    iso,
    iso_date,
    iso_millis,
    read_iso,
    read_timestamp,
    units,
)


@pytest.mark.parametrize(
    ("sent", "micros"),
    [
        ("1777627800", 1_777_627_800_000_000),
        ("1777627800.123", 1_777_627_800_123_000),
        ("1777627800.1234567", 1_777_627_800_123_456),
        (1_777_627_800, 1_777_627_800_000_000),
        (1_777_627_800.5, 1_777_627_800_500_000),
        ("-1.5", -1_500_000),
        ("0", 0),
    ],
)
def test_unix_seconds_are_read(sent: object, micros: int) -> None:
    """A timestamp is Unix seconds, a number or a decimal string; what is below a microsecond is cut off."""
    assert read_timestamp(sent) == micros


@pytest.mark.parametrize(
    "sent",
    ["2026-05-01T09:30:00Z", "", " 1777627800", "1777627800 ", "1e9", "+5", ".5", "5.", "NaN", "\u0663", True, [], {}],
)
def test_anything_else_is_an_invalid_format(sent: object) -> None:
    """ISO 8601, spaces, exponents, signs, other digits, booleans and containers are no timestamp."""
    with pytest.raises(InvalidFormatError):
        read_timestamp(sent)


def test_epoch_milliseconds_land_in_a_far_year() -> None:
    """Milliseconds are taken for seconds: accepted, and written as the year 54295."""
    assert iso_millis(read_timestamp("1651240791123")) == "54295-09-27T05:32:03.000Z"


@pytest.mark.parametrize(
    ("micros", "written"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400_000_000, "2000-02-29T00:00:00Z"),
        (1_777_627_800_999_999, "2026-05-01T09:30:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (253_402_300_799_000_000, "9999-12-31T23:59:59Z"),
        (253_402_300_800_000_000, "10000-01-01T00:00:00Z"),
    ],
)
def test_instants_are_written_in_iso_8601(micros: int, written: str) -> None:
    """Whole seconds in UTC, in any year; the date is its beginning."""
    assert iso(micros) == written
    assert iso_date(micros) == written.partition("T")[0]


@pytest.mark.parametrize(
    "text", ["2026-05-01T09:30:00Z", "2026-05-01T11:30:00+02:00", "2026-05-01T11:30:00 02:00", "2026-05-01T09:30:00"]
)
def test_iso_is_read_with_and_without_a_zone(text: str) -> None:
    """No zone is UTC, and a plus that a query string turned into a space still counts."""
    assert read_iso(text) == 1_777_627_800_000_000


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("5", Decimal(5)),
        ("-5", Decimal(-5)),
        ("12.345", Decimal("12.345")),
        ("0.000", Decimal("0.000")),
        (7, Decimal(7)),
        (0.5, Decimal("0.5")),
        (1e-7, Decimal("0.0000001")),
        ("1e3", None),
        (".5", None),
        ("5.", None),
        ("+5", None),
        (" 5", None),
        ("5\n", None),
        ("", None),
        ("\u0665", None),  # an Arabic five
        ("1,5", None),
        (None, None),
        (True, None),
        ([5], None),
    ],
)
def test_only_plain_decimals_are_counted(value: object, number: Decimal | None) -> None:
    r"""Lago counts `^-?\d+(\.\d+)?$` and skips everything else without a word."""
    assert counted_number(value) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("12.340", "12.34"),
        ("5", "5.0"),
        ("0", "0.0"),
        ("-0.000", "0.0"),
        ("1E+3", "1000.0"),
        ("0.0000001", "0.0000001"),
    ],
)
def test_units_are_plain_decimal_strings(number: str, text: str) -> None:
    """No exponent, no trailing zeros, at least one decimal."""
    assert units(Decimal(number)) == text


@pytest.mark.parametrize(("amount", "expected"), [("0.005", 1), ("0.0049", 0), ("4.32075", 432), ("1", 100)])
def test_amounts_are_rounded_to_cents_half_up(amount: str, expected: int) -> None:
    """Half a cent is a cent."""
    assert cents(Decimal(amount)) == expected
