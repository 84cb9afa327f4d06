import pytest

from deploy.demo.lago.faults import Fault, FaultControl
from deploy.demo.lago.gate import RateLimiter
from deploy.demo.lago.settings import RateLimits


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("slow=800", Fault(name="slow", value=800)),
        ("down", Fault(name="down")),
        (
            "drop_after_commit=1,path=/api/v1/events,count=2,method=post",
            Fault(name="drop_after_commit", value=1, path="/api/v1/events", count=2, method="POST"),
        ),
        ("empty_5xx", Fault(name="empty_5xx", value=502)),
    ],
)
def test_a_fault_is_written_in_one_argument(text: str, fault: Fault) -> None:
    """Name, value and where it holds, as the command line takes it."""
    assert Fault.parse(text) == fault


@pytest.mark.parametrize("text", ["explode=1", "slow=much", "slow=1,colour=red", "slow=1,count=x"])
def test_a_fault_that_does_not_exist_is_refused(text: str) -> None:
    """A typing error never looks like a healthy Lago."""
    with pytest.raises(ValueError, match=r"."):
        Fault.parse(text)


def test_a_fault_ends_after_its_count() -> None:
    """Two requests meet it, the third does not; other paths and methods use nothing up."""
    control = FaultControl()
    control.add("http_503", path="/api/v1/events", method="POST", count=2)
    assert control.take("GET", "/api/v1/events") == []
    assert control.take("POST", "/api/v1/customers") == []
    assert [fault.name for fault in control.take("POST", "/api/v1/events/batch")] == ["http_503"]
    assert control.take("POST", "/api/v1/events")
    assert control.take("POST", "/api/v1/events") == []


def test_of_two_faults_with_one_name_the_first_holds() -> None:
    """A second one waits until the first is used up."""
    control = FaultControl((Fault(name="slow", value=5, count=1), Fault(name="slow", value=7)))
    assert [control.take("GET", "/api/v1/plans")[0].value for _ in range(3)] == [5, 7, 7]
    control.clear("slow")
    assert control.in_force() == []


def test_limits_are_counted_by_kind_and_second() -> None:
    """Ingestion, usage and the rest have their own limits; a new second starts afresh."""
    now = 100.25
    limiter = RateLimiter(RateLimits(ingestion=2, current_usage=1), lambda: now)
    passed = [limiter.take("POST", "/api/v1/events/batch") for _ in range(3)]
    assert [passes for passes, _ in passed] == [True, True, False]
    assert passed[2][1] == {"X-RateLimit-Limit": "2", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}
    assert limiter.take("GET", "/api/v1/customers/c/current_usage")[0]
    assert not limiter.take("GET", "/api/v1/customers/c/current_usage")[0]
    assert limiter.take("GET", "/api/v1/events") == (True, {})
    now = 101.0
    assert limiter.take("POST", "/api/v1/events/batch")[0]
