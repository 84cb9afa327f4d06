import pytest

from services.admin_api.cli.held import money


@pytest.mark.parametrize(
    ("cents", "text"),
    [
        (1_234, "12.34 EUR"),
        (5, "0.05 EUR"),
        (-5, "-0.05 EUR"),
        (-150, "-1.50 EUR"),
        (-1_234, "-12.34 EUR"),
        (0, ""),
        (None, ""),
    ],
)
def test_money_has_its_sign_in_front(cents: int | None, text: str) -> None:
    """What is to be given back is written like what is owed, with a minus before it."""
    assert money(cents, "EUR") == text
