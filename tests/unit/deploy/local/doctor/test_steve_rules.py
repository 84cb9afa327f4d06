from typing import Any

import pytest

from deploy.local.doctor.steve import rules
from deploy.local.doctor.steve.rules import Abilities, Found, Scheme
from deploy.local.doctor.upstream import WELL, Heard
from services.sync.steve.client import SteveVersion
from services.sync.upstreams.errors import Reason

BASIC: frozenset[Scheme] = frozenset({"basic"})
KEY: frozenset[Scheme] = frozenset({"key"})
BOTH = BASIC | KEY
NO = Heard("unauthorized", "does not accept our credentials (401)")
ALL = Abilities(lists=True, operations=True, details=True)


@pytest.mark.parametrize(
    ("reason", "explanation", "verdict", "check", "remedy"),
    [
        ("unreachable", "cannot be reached (ConnectError)", "no unknown unknown", 0, "Start SteVe"),
        ("unreachable", "cannot be reached ([SSL: CERTIFICATE_VERIFY_FAILED])", "no unknown unknown", 0, "certificate"),
        ("timed_out", "did not answer in time", "no unknown unknown", 0, "Start SteVe"),
        ("server_error", "answered 502, not in JSON", "no unknown unknown", 0, "SteVe's log"),
        ("rate_limited", "has a rate limit", "yes unknown unknown", 1, "Ask again"),
        ("unauthorized", "does not accept our credentials (401)", "yes no unknown", 1, "STEVE_PASSWORD"),
        ("forbidden", "forbids this call (403)", "yes no unknown", 1, "right to use the API"),
        ("redirected", "redirects to /steve/manager/signin", "yes no unknown", 1, "STEVE_PASSWORD"),
        ("not_json", "answered 200 with text/html instead of JSON", "yes no unknown", 1, "STEVE_URL"),
        ("refused", "answered 404: Not Found", "yes no unknown", 1, "STEVE_URL"),
    ],
)
def test_what_steve_answers_is_named_as_what_it_is(
    reason: Reason, explanation: str, verdict: str, check: int, remedy: str
) -> None:
    """No connection, a proxy's error, a login page, HTML, 401 and 403 are different findings."""
    said = Heard(reason, explanation)
    results = rules.judge(Found(said, BASIC, {"basic": said}))
    assert " ".join(one.answer for one in results) == verdict
    assert explanation in results[check].why
    assert remedy in (results[check].remedy or "")


def test_a_redirect_is_called_a_request_to_sign_in() -> None:
    """A login page is no mystery: SteVe did not take the credentials."""
    said = Heard("redirected", "redirects to /steve/manager/signin instead of answering")
    assert "sign in" in rules.judge(Found(said, BASIC, {"basic": said}))[1].why


@pytest.mark.parametrize(
    ("has", "schemes", "borrowed", "words", "remedy"),
    [
        (BASIC, {"basic": NO, "key": WELL}, KEY, "STEVE-API-KEY with the password works", "STEVE_API_KEY, empty"),
        (KEY, {"basic": WELL, "key": NO}, BASIC, "HTTP Basic with the value", "_STEVE_PASSWORD, and set"),
        (
            BOTH,
            {"basic": NO, "key": WELL},
            frozenset(),
            "STEVE-API-KEY alone works",
            "Empty EXPRESSYNC_SYNC_STEVE_USER",
        ),
        (BOTH, {"basic": WELL, "key": NO}, frozenset(), "HTTP Basic alone", "Empty EXPRESSYNC_SYNC_STEVE_API_KEY"),
        (BASIC, {"basic": NO, "key": NO}, KEY, "HTTP Basic is set", "3.6 and 3.7 takes EXPRESSYNC_SYNC_STEVE_API_KEY"),
        (KEY, {"key": NO}, frozenset(), "STEVE-API-KEY is set", "3.8 and later takes EXPRESSYNC_SYNC_STEVE_USER"),
        (BOTH, {"basic": NO, "key": NO}, frozenset(), "HTTP Basic and STEVE-API-KEY is set", "Correct"),
    ],
)
def test_the_scheme_that_would_work_is_named(
    has: frozenset[Scheme], schemes: dict[Scheme, Heard], borrowed: frozenset[Scheme], words: str, remedy: str
) -> None:
    """Where the configured credentials fail and another scheme would do, the answer says so and how to change."""
    found = rules.judge(Found(NO, has, schemes, borrowed))[1]
    assert found.answer == "no"
    assert words in found.why
    assert remedy in (found.remedy or "")


@pytest.mark.parametrize(
    ("has", "schemes", "words"),
    [
        (BASIC, {"basic": WELL}, "HTTP Basic works."),
        (KEY, {"key": WELL}, "STEVE-API-KEY works."),
        (BOTH, {"basic": NO, "key": WELL}, "STEVE-API-KEY works. HTTP Basic is set as well, and does not"),
        (BOTH, {"basic": WELL, "key": WELL}, "HTTP Basic and STEVE-API-KEY work."),
    ],
)
def test_the_scheme_that_works_is_named(has: frozenset[Scheme], schemes: dict[Scheme, Heard], words: str) -> None:
    """Where we are let in, the answer says by which scheme."""
    found = rules.judge(Found(WELL, has, schemes, abilities=ALL))[1]
    assert found.answer == "yes"
    assert words in found.why


@pytest.mark.parametrize(
    ("version", "abilities", "answer", "words"),
    [
        ("3.12", ALL, "yes", "lists of transactions, operations, a transaction's details"),
        ("3.12", Abilities(lists=True, operations=False, details=True), "no", "has no operations"),
        ("3.12", Abilities(lists=True, operations=True, details=False), "no", "no a transaction's details"),
        ("3.11", Abilities(lists=False, operations=False), "no", "no lists of transactions and no operations"),
        ("3.7", Abilities(lists=False, operations=False, details=False), "yes", "one transaction at a time"),
        ("3.7", ALL, "yes", "may be set higher"),
        ("3.12", Abilities(operations=True), "yes", "Not seen yet"),
        ("3.12", Abilities(), "yes", "Not seen yet"),
    ],
)
def test_the_configured_release_is_compared_with_what_is_seen(
    version: str, abilities: Abilities, answer: str, words: str
) -> None:
    """A release that promises more than this SteVe does is a finding; what cannot be seen is said."""
    found = rules.judge(Found(WELL, BASIC, {"basic": WELL}, abilities=abilities, version=SteveVersion.parse(version)))[
        2
    ]
    assert found.answer == answer
    assert words in found.why


def test_without_an_address_nothing_is_asked() -> None:
    """A missing address is the finding, and all that needs it is unknown."""
    results: list[Any] = rules.no_address()
    assert [one.answer for one in results] == ["no", "unknown", "unknown"]
    assert "EXPRESSYNC_SYNC_STEVE_URL" in results[0].why
