import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from shared.runtime.log import MASK, configure, get_logger, mask


@pytest.fixture
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("key", "value", "masked"),
    [
        ("password", "x", MASK),
        ("lago_api_key", "x", MASK),
        ("Authorization", "Bearer abc", MASK),
        ("x_signature", "ff", MASK),
        ("set-cookie", "a=b", MASK),
        ("session_token", "x", MASK),
        ("url", "amqp://user:pass@host/", f"amqp://{MASK}@host/"),
        ("error", "cannot reach postgresql://a:b%40c@h:5432/d now", f"cannot reach postgresql://{MASK}@h:5432/d now"),
        ("url", "amqp://user:p@ss/w@rd@host:5672/v", f"amqp://{MASK}@host:5672/v"),
        ("url", "postgresql://me@corp:hunter2@h/d", f"postgresql://{MASK}@h/d"),
        ("url", "postgresql://me@h:5432/d?application_name=x", "postgresql://me@h:5432/d?application_name=x"),
        ("url", "http://h/scan?charger=CP-7&key=s3cret", f"http://h/scan?charger=CP-7&key={MASK}"),
        (
            "error",
            "connection to host=h password='a b' dbname=d failed",
            f"connection to host=h password={MASK} dbname=d failed",
        ),
        ("error", "refused (token=x)", f"refused (token={MASK}"),
        ("error", "'password=x host=h'", f"'password={MASK} host=h'"),
        ("url", "http://h/#access_token=x", f"http://h/#access_token={MASK}"),
        ("error", "idempotency_key=abc", "idempotency_key=abc"),
        ("header", "Authorization: Bearer abcdef123456", f"Authorization: Bearer {MASK}"),
        (
            "error",
            'violates "c"\nDETAIL:  Failing row contains (A, $argon2id$v=19 (x), null).\n[SQL: INSERT INTO t (a) ...]',
            f'violates "c"\nDETAIL:  Failing row contains {MASK}.\n[SQL: INSERT INTO t (a) ...]',
        ),
        ("id_tag", "04A1B2C3", "04A1B2C3"),
        ("routing_key", "card.changed", "card.changed"),
        ("ordering_key", "card/1", "card/1"),
        ("attempts", 3, 3),
        ("nested", {"inner": [{"password": "x", "user": "u"}]}, {"inner": [{"password": MASK, "user": "u"}]}),
    ],
)
def test_secrets_are_masked_by_name_and_inside_text(key: str, value: object, masked: object) -> None:
    """What is secret by its name, or stands as credentials inside a text, never reaches a log."""
    assert mask(value, key) == masked


# Whatever can be typed without a space, also what an address should have escaped.
PASSWORDS = st.text(st.characters(categories=("L", "M", "N", "P", "S")), min_size=1, max_size=30)


@given(PASSWORDS)
def test_no_password_in_an_address_survives(password: str) -> None:
    """Whatever the password in an address is, escaped or not, it is not in the masked text."""
    told = mask(f"No answer from amqp://user:{password}@127.0.0.1:5672/ today.", "error")
    assert told == f"No answer from amqp://{MASK}@127.0.0.1:5672/ today."


@given(PASSWORDS)
@example("'a'b")
def test_no_password_in_the_query_of_an_address_survives(password: str) -> None:
    """The same where libpq takes it from the query, in which an & or a ; ends it."""
    given_ = password.replace("&", "%26").replace(";", "%3B")
    told = mask(f"postgresql://h/d?user=u&password={given_}&sslmode=require", "url")
    assert told == f"postgresql://h/d?user=u&password={MASK}&sslmode=require"


def test_json_lines_carry_the_service_and_no_secret(restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is one JSON object with service, level, time and sentence, also from the standard library."""
    configure("toy")
    get_logger("a").warning("It broke.", action="toy.broke", url="http://u:p4ss@h/")
    logging.getLogger("library").warning("plain http://u:p4ss@h/")
    get_logger("a").error("With a traceback.", exc_info=ValueError("amqp://u:p4ss@h/ is wrong"))
    err = capsys.readouterr().err
    lines = [json.loads(line) for line in err.splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert line["service"] == "toy"
        assert {"event", "level", "timestamp"} <= line.keys()
    assert lines[0]["action"] == "toy.broke"
    assert "p4ss" not in err


def test_console_lines_are_for_people(restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    """The console form says the sentence and hides the secret."""
    configure("toy", log_format="console")
    get_logger("a").info("It runs.", token="t0ken")
    told = capsys.readouterr().err
    assert "It runs." in told
    assert "t0ken" not in told
