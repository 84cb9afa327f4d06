import pytest

from deploy.local.doctor.presence import rules


@pytest.mark.parametrize(
    ("strong", "answer", "words"),
    [
        (False, "yes", "needs a PIN"),
        (True, "no", "whoever has a photo of one is logged in as the next card"),
        (None, "unknown", "neither true nor false"),
    ],
)
def test_a_qr_code_that_logs_in_alone_is_a_finding(strong: bool | None, answer: str, words: str) -> None:  # noqa: FBT001
    """Whoever declared QR codes strong is told plainly what that means, and how to take it back."""
    found = rules.judge(qr_is_strong=strong)
    assert found.answer == answer
    assert words in found.why
    assert (found.remedy is None) == (answer == "yes")
