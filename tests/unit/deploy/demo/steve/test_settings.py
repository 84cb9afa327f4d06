import pytest

from deploy.demo.steve.settings import SteveVersion


@pytest.mark.parametrize(
    ("text", "basic", "lists", "details", "expire"),
    [
        ("3.6", False, False, False, False),
        ("3.7", False, False, False, False),
        ("3.8", True, False, False, False),
        ("3.10", True, False, False, False),
        ("3.11", True, True, False, False),
        ("3.12", True, True, True, False),
        ("3.14", True, True, True, False),
        ("3.15", True, True, True, True),
    ],
)
def test_what_each_version_can_do(text: str, *, basic: bool, lists: bool, details: bool, expire: bool) -> None:
    """Versions are compared as numbers: 3.10 comes after 3.8."""
    version = SteveVersion.parse(text)
    assert version.has_basic_auth == basic
    assert version.has_lists == version.has_operations == lists
    assert version.has_transaction_details == details
    assert version.has_expire == expire


@pytest.mark.parametrize("text", ["3", "", "3.x", "three.six"])
def test_what_is_no_version(text: str) -> None:
    """A text that is no version is refused and named."""
    with pytest.raises(ValueError, match="is no SteVe version"):
        SteveVersion.parse(text)
