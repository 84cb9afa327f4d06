import pytest

from deploy.local.doctor.hook import rules

GOOD = b"3c6ef372fe94f82ba54ff53a5f1d36f1510e527fade682d1"
OTHER = b"cbbb9d5dc1059ed8629a292a367cd507a54ff53a9159015a"


@pytest.mark.parametrize(
    ("keys", "answer", "words"),
    [
        ([], "yes", "There is none"),
        ([GOOD], "yes", "One key"),
        ([GOOD, OTHER], "yes", "2 keys"),
        ([b"secret"], "no", "1 of 1"),
        ([GOOD, b"a" * 64], "no", "1 of 2"),
        ([b"abcabcabcabcabcabcabcabcabc"], "no", "1 of 1"),
        ([GOOD, GOOD], "no", "the same"),
        (None, "no", "base64"),
    ],
)
def test_how_strong_the_hooks_keys_are(keys: list[bytes] | None, answer: str, words: str) -> None:
    """Short, monotonous and repeated keys are findings; how many there are is said, and never what they are."""
    found = rules.judge(keys)
    assert found.answer == answer
    assert words in found.why
    assert not any(key.decode() in found.why + (found.remedy or "") for key in keys or [] if key != b"secret")
