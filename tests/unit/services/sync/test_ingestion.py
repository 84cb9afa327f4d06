"""What a process remembers of Lago's failures, after a clock that was ahead."""

from datetime import UTC, datetime, timedelta

from services.sync.ledger.ingestion import FAILURES_TO_STOP, Ingestion
from services.sync.ledger.store import Entry
from services.sync.upstreams.errors import UnavailableError, UpstreamError

NOW = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
AHEAD = NOW + timedelta(hours=2)


def entry(pk: int, failing_since: datetime | None = None) -> Entry:
    return Entry(
        steve_id="steve",
        transaction_pk=pk,
        seq=0,
        from_wh=0,
        to_wh=1_000,
        usage_event_id=f"steve:{pk}:0",
        external_customer_id="cus_ada",
        external_subscription_id="sub_ada",
        code="ev_kwh",
        property_name="kwh",
        charge_box_id="CP-1",
        timestamp=NOW,
        final=True,
        attempts=1,
        put_offs=0,
        server_errors=0,
        failing_since=failing_since,
        created_at=NOW,
        delivered_at=None,
        period_to=None,
    )


def failure() -> UpstreamError:
    return UnavailableError("lago", "server_error", "answered 500")


def test_a_pause_of_a_clock_ahead_is_over_when_it_is_set_right() -> None:
    """It ends where no pause could end that began since."""
    ingestion = Ingestion(lambda _: None)
    for pk in range(FAILURES_TO_STOP):
        ingestion.failed_on([entry(pk)], failure(), AHEAD)
    assert ingestion.wait(AHEAD) is not None
    assert ingestion.wait(NOW) is None
    ingestion.failed_on([entry(7)], failure(), NOW)
    assert ingestion.wait(NOW) is not None


def test_what_lago_took_by_a_clock_ahead_blames_no_event() -> None:
    """It seems to have been after the event failed, and was before."""
    ingestion = Ingestion(lambda _: None)
    ingestion.took(AHEAD)
    assert not ingestion.failed_on([entry(1, failing_since=NOW)], failure(), NOW + timedelta(minutes=1))


def test_failures_of_a_clock_ahead_are_forgotten() -> None:
    """As those of long ago are: what nothing more was heard of."""
    told: list[UpstreamError | None] = []
    ingestion = Ingestion(told.append)
    ingestion.failed_on([entry(1)], failure(), AHEAD)
    ingestion.forget_old(NOW)
    assert not ingestion.is_doubtful
