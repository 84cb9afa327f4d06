import pytest

from deploy.demo.steve.faults import Fault, Faults, parse_fault

TAGS = "/steve/api/v1/ocppTags"


def test_a_fault_strikes_as_often_as_it_says() -> None:
    """`times` counts down with each request hit; then the fault is over."""
    faults = Faults([Fault(name="5xx", value=503, times=2)])
    assert [bool(faults.strike(TAGS)) for _ in range(3)] == [True, True, False]


def test_a_fault_without_times_strikes_always() -> None:
    """Without `times` it goes on until it is cleared."""
    faults = Faults([Fault(name="down")])
    assert all(faults.strike(TAGS) for _ in range(5))
    faults.clear()
    assert not faults.strike(TAGS)


def test_a_fault_hits_only_its_path_and_methods() -> None:
    """Path prefix and methods restrict a fault; a request it does not hit does not count."""
    faults = Faults()
    faults.set("drop_after_commit", path=TAGS, methods=("PUT",), times=1)
    assert not faults.strike("/steve/api/v1/transactions", "PUT")
    assert not faults.strike(TAGS, "GET")
    assert faults.strike(f"{TAGS}/4", "PUT")


def test_faults_add_up() -> None:
    """Slow and wrong can be on together; of two with one name the first that hits strikes."""
    faults = Faults([Fault(name="slow", value=5), Fault(name="5xx"), Fault(name="slow", value=9)])
    hits = faults.strike(TAGS)
    assert set(hits) == {"slow", "5xx"}
    assert hits["slow"].value == 5


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("down", Fault(name="down")),
        ("slow=500", Fault(name="slow", value=500)),
        (
            "5xx=503;path=/steve/api/v1/ocppTags;methods=put,POST;times=2",
            Fault(name="5xx", value=503, path=TAGS, methods=["PUT", "POST"], times=2),
        ),
    ],
)
def test_reading_a_fault(text: str, fault: Fault) -> None:
    """The command line's form names value, path, methods and times."""
    assert parse_fault(text) == fault


@pytest.mark.parametrize("text", ["nonsense", "slow=soon", "slow=5;times=x", "slow=5;color=red"])
def test_refusing_what_is_no_fault(text: str) -> None:
    """What cannot be read is refused with the text in the message."""
    with pytest.raises(ValueError, match=r"number|is no fault"):
        parse_fault(text)
