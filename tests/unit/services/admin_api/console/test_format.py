from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.admin_api.console import format as fmt

NOW = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)


def plain(shown: str) -> str:
    return shown.replace(fmt.MINUS, "-").replace(fmt.THIN_SPACE, "")


@pytest.mark.parametrize(
    ("wh", "shown"),
    [
        (0, "0.0"),
        (49, "0.0"),
        (50, "0.1"),
        (12_437, "12.4"),
        (12_449, "12.4"),
        (12_450, "12.5"),
        (99_950, "100.0"),
        (-49, "0.0"),
        (-50, fmt.MINUS + "0.1"),
        (-12_450, fmt.MINUS + "12.5"),
        (12_345_678, "12\u202f345.7"),
        (9_999_949, "9999.9"),
    ],
)
def test_kwh(wh: int, shown: str) -> None:
    """Integer Wh are shown as kWh with one decimal, halves away from zero, and never as minus nothing."""
    assert fmt.kwh(wh) == shown


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_kwh_rounds_as_decimal_arithmetic_does(wh: int) -> None:
    """The figure equals exact decimal rounding, also far beyond what a float can hold."""
    exact = (Decimal(wh) / 1000).quantize(Decimal("0.1"), rounding=ROUND_HALF_UP)
    assert Decimal(plain(fmt.kwh(wh))) == exact


@given(st.lists(st.integers(min_value=-100_000, max_value=100_000), max_size=20))
def test_total_says_when_the_rows_on_the_screen_do_not_add_up(rows: list[int]) -> None:
    """The total is the exact sum, and is flagged exactly when the rounded rows add up to something else."""

    def tenths(wh: int) -> int:
        return int(Decimal(plain(fmt.kwh(wh))) * 10)

    total = fmt.kwh_total(rows)
    assert total.wh == sum(rows)
    assert total.kwh == fmt.kwh(sum(rows))
    assert total.rows_differ == (sum(map(tenths, rows)) != tenths(sum(rows)))


@pytest.mark.parametrize(
    ("ago", "shown"),
    [
        (timedelta(seconds=-5), "0 s"),
        (timedelta(0), "0 s"),
        (timedelta(seconds=59, milliseconds=999), "59 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=1), "1 h"),
        (timedelta(hours=47, minutes=59), "47 h"),
        (timedelta(hours=48), "2 d"),
        (timedelta(days=400), "400 d"),
    ],
)
def test_age(ago: timedelta, shown: str) -> None:
    """An age is given in its largest whole unit, and a clock that runs ahead gives no negative age."""
    assert fmt.age(NOW - ago, NOW) == shown


@pytest.mark.parametrize(
    ("took", "shown"),
    [
        (timedelta(seconds=-1), "0 s"),
        (timedelta(seconds=42), "42 s"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=1), "1 h"),
        (timedelta(hours=1, minutes=24, seconds=59), "1 h 24 min"),
        (timedelta(hours=30), "30 h"),
    ],
)
def test_duration(took: timedelta, shown: str) -> None:
    """A session's length is given to the minute, and to the second only when it was shorter than one."""
    assert fmt.duration(NOW, NOW + took) == shown


@pytest.mark.parametrize(("ms", "shown"), [(0, "0 ms"), (999, "999 ms"), (1_000, "1.0 s"), (5_249, "5.2 s")])
def test_milliseconds(ms: int, shown: str) -> None:
    """Short waits are milliseconds, long ones seconds with one decimal."""
    assert fmt.milliseconds(ms) == shown


def test_times_are_written_in_utc() -> None:
    """A time of any zone is written in UTC, with its zone named, and as RFC 3339 for the browser."""
    at = datetime(2026, 5, 1, 11, 30, 7, 123_999, tzinfo=timezone(timedelta(hours=2)))
    assert fmt.instant(at) == "2026-05-01 09:30 UTC"
    assert fmt.instant_exact(at) == "2026-05-01 09:30:07 UTC"
    assert fmt.iso(at) == "2026-05-01T09:30:07.123Z"


def test_a_time_without_zone_is_refused() -> None:
    """A naive time is an error of the caller and is never guessed to be UTC."""
    with pytest.raises(ValueError, match="no time zone"):
        fmt.instant(datetime(2026, 5, 1, 9, 30))  # noqa: DTZ001 - this is the case


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (9_999, "9999"), (10_000, "10\u202f000"), (-1_234_567, fmt.MINUS + "1\u202f234\u202f567")],
)
def test_grouped(number: int, shown: str) -> None:
    """Thousands stand apart from five digits on."""
    assert fmt.grouped(number) == shown


def test_count() -> None:
    """One thing is singular, none and several are plural, regular or not."""
    assert fmt.count(1, "session") == "1 session"
    assert fmt.count(0, "session") == "0 sessions"
    assert fmt.count(2, "entry", "entries") == "2 entries"


@given(st.text(max_size=60), st.integers(min_value=3, max_value=30))
def test_middle_never_exceeds_its_limit_and_keeps_both_ends(text: str, limit: int) -> None:
    """A shortened identifier fits, begins and ends as the whole one does, and a short one is left alone."""
    shown = fmt.middle(text, limit)
    assert len(shown) <= limit
    if len(text) <= limit:
        assert shown == text
    else:
        head, _, tail = shown.partition("…") if "…" not in text else ("", "", "")
        assert text.startswith(head)
        assert text.endswith(tail)


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("meter_went_back", "meter went back"),
        ("EVDisconnected", "EV disconnected"),
        ("needs-credit-note", "needs credit note"),
        ("charger.firmware_seen", "charger firmware seen"),
        ("", ""),
    ],
)
def test_words(code: str, shown: str) -> None:
    """A code without a sentence of its own is still spelled out."""
    assert fmt.words(code) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [("Mara Lindt", "ML"), ("mara", "M"), ("mara.lindt@example.org", "ML"), ("", "?"), ("Ø-Ö", "ØÖ")],
)
def test_initials(name: str, shown: str) -> None:
    """The operator's button shows at most two letters, and something for any name."""
    assert fmt.initials(name) == shown


@pytest.mark.parametrize(
    ("limit", "shown"),
    [(0, "0 (blocked)"), (-1, "unlimited"), (1, "1 session at once"), (3, "3 sessions at once")],
)
def test_tag_limit(limit: int, shown: str) -> None:
    """SteVe's limit is said in words: zero blocks, a negative one does not limit."""
    assert fmt.tag_limit(limit) == shown


@pytest.mark.parametrize(
    ("name", "item", "shown"),
    [
        ("to_wh", 12_437, ("to", "12\u202f437 Wh")),
        ("duration_ms", 12, ("duration", "12 ms")),
        ("lost_for_s", 41, ("lost for", "41 s")),
        ("in_s", True, ("in s", "yes")),
        ("id_tag", "04A1", ("idTag", "04A1")),
        ("note", None, ("note", "none")),
        ("tags", ["a", "b"], ("tags", '["a", "b"]')),
    ],
)
def test_field(name: str, item: object, shown: tuple[str, str]) -> None:
    """A field of an event is shown with the unit that its name carries."""
    assert fmt.field(name, item) == shown
