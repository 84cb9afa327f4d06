"""What a subscription's time says of an event."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.sync.lago.rules import Life, Subscribed

START, END = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 20, 12, tzinfo=UTC)
MAY = START + timedelta(days=9)
ENDED = Life("ada", START, END)
RUNNING = Life("ada", START, period_from=START)


def after(moment: datetime, **parts: float) -> datetime:
    return moment + timedelta(**parts)


@pytest.mark.parametrize(
    ("life", "at", "stored_at", "counts"),
    [
        (RUNNING, MAY, MAY, True),
        (RUNNING, MAY, None, True),
        (replace(RUNNING, external_customer_id="bob"), MAY, MAY, False),
        # Lago cuts the start to the second: within it nothing is certain.
        (RUNNING, after(START, milliseconds=999), MAY, False),
        (RUNNING, after(START, seconds=1), MAY, True),
        (replace(RUNNING, started_at=after(START, milliseconds=5)), after(START, milliseconds=5), MAY, True),
        (ENDED, END, after(END, seconds=-1), True),
        (ENDED, after(END, milliseconds=1), END, False),
        (ENDED, MAY, END, False),
        (ENDED, MAY, None, False),
        # A period whose invoice is final.
        (replace(RUNNING, period_from=END), MAY, after(END, seconds=-1), True),
        (replace(RUNNING, period_from=END), MAY, END, False),
        (replace(RUNNING, period_from=END), MAY, None, False),
        (replace(RUNNING, period_from=END), END, after(END, days=1), True),
    ],
)
def test_an_event_counts_where_its_invoice_was_still_open(
    life: Life,
    at: datetime,
    stored_at: datetime | None,
    counts: bool,  # noqa: FBT001
) -> None:
    """It ran then, for this customer, and Lago had the event before the invoice of that time was final."""
    assert life.counts(at, stored_at, "ada") is counts


@pytest.mark.parametrize(
    "life", [replace(RUNNING, period_from=after(END, days=60)), Life("ada", START, after(END, days=60))]
)
@pytest.mark.parametrize(("late", "counts"), [(-1, True), (1, False)])
def test_the_period_of_an_event_decides_however_much_later_it_is_asked(life: Life, late: int, counts: bool) -> None:  # noqa: FBT001
    """Two periods later, and when the subscription has ended, the invoice of the event's own period was final long
    before.
    """
    assert life.counts(MAY, after(END, seconds=late), "ada", END) is counts


@pytest.mark.parametrize(
    ("at", "known", "end"),
    [
        (MAY, True, after(END, microseconds=999_999)),
        (after(END, microseconds=999_999), True, after(END, microseconds=999_999)),
        # Of the next period, of which nothing was told yet.
        (after(END, seconds=2), False, None),
        # Of one before: that one is over.
        (after(START, seconds=-1), True, None),
    ],
)
def test_the_period_of_a_moment(at: datetime, known: bool, end: datetime | None) -> None:  # noqa: FBT001
    """It is known as long as Lago was asked in it, and Lago means the whole of a period's last second."""
    told = Subscribed("sub", active=True, checked_at=MAY, period_from=START, period_to=END)
    assert (told.knows_period_of(at), told.period_of(at)) == (known, end)
    assert replace(told, checked_at=after(END, days=1)).knows_period_of(at)


@pytest.mark.parametrize(
    ("given", "life"),
    [
        ({"active": True}, RUNNING),
        ({"active": True, "started_at": None}, None),
        ({"active": False}, None),
        ({"active": False, "ended_at": END}, ENDED),
        ({"active": False, "ended_at": END, "gone_at": END}, None),
        # Its planned end, from when it was active: of one that Lago does not have now.
        ({"active": False, "ended_at": after(END, days=9)}, None),
    ],
)
def test_the_time_of_what_is_known(given: dict[str, object], life: Life | None) -> None:
    """There is none where Lago said that it has no such subscription, or none that has begun."""
    values = {"external_customer_id": "ada", "started_at": START, "period_from": START, **given}
    assert Subscribed("sub", checked_at=after(END, hours=1), **values).life() == life  # type: ignore[arg-type]


@pytest.mark.parametrize("ahead_s", [59, 61])
def test_what_is_dated_ahead_is_not_believed(ahead_s: int) -> None:
    """An answer that clocks beside each other may date so is believed, one from further ahead is not."""
    known = Subscribed("sub", True, after(START, seconds=ahead_s))
    assert known.is_older(START, timedelta(minutes=30)) == (ahead_s > 60)
