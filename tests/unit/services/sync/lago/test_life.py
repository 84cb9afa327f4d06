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
