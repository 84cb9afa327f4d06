from dataclasses import replace
from typing import Any

import pytest

from deploy.local.doctor.database import rules
from deploy.local.doctor.database.rules import Found, Role

SERVICES = ("preauth", "sync")
FINE = Found(
    "wheel",
    "postgresql://postgres:***@127.0.0.1:5432/postgres",
    running=True,
    server_version="18.1",
    may_administer=True,
    schemas=frozenset(SERVICES),
    roles=frozenset({"expressync_preauth", "biller"}),
    role_of={"preauth": "expressync_preauth", "sync": "biller"},
    versions={"preauth": ("0001",), "sync": ("0002",)},
    heads={"preauth": ("0001",), "sync": ("0002",)},
    access={"preauth": Role(attempted=True), "sync": Role(attempted=True)},
)


def test_a_database_with_all_it_needs_is_fine() -> None:
    """Every check says yes, and the first says which PostgreSQL it is."""
    results = rules.judge(FINE)
    assert {one.answer for one in results} == {"yes"}
    assert [one.id for one in results] == [rules.REACHABLE, *rules.AFTER]
    assert "18.1" in results[0].why
    assert "private" in results[0].why


@pytest.mark.parametrize(
    ("change", "check", "answer", "words", "remedy"),
    [
        ({"running": False}, "database.reachable", "no", "not running", "`expressync up`"),
        (
            {"way": "url", "problem": 'password authentication failed for user "x".'},
            "database.reachable",
            "no",
            "authentication",
            "EXPRESSYNC_DATABASE_ADMIN_URL",
        ),
        ({"way": "url", "problem": 'database "x" does not exist.'}, "database.reachable", "no", '"x"', "Create"),
        ({"way": "url", "problem": "no pg_hba.conf entry."}, "database.reachable", "no", "pg_hba", "Allow"),
        ({"way": "url", "problem": "Connection refused."}, "database.reachable", "no", "refused", "Start it"),
        ({"problem": "Connection refused.", "log": "/x.log"}, "database.reachable", "no", "refused", "/x.log"),
        ({"may_administer": False}, "database.rights", "no", "may not create roles", "CREATEROLE"),
        ({"schemas": frozenset({"sync"})}, "database.roles", "no", "schema preauth", "expressync migrate"),
        ({"roles": frozenset()}, "database.roles", "no", "role expressync_preauth", "expressync migrate"),
        (
            {"access": {"sync": Role(attempted=True, problem="password authentication failed")}},
            "database.roles",
            "no",
            "biller",
            "expressync migrate",
        ),
        (
            {"access": {"sync": Role(attempted=True, problem="x", given_in="EXPRESSYNC_SYNC_DATABASE_URL")}},
            "database.roles",
            "no",
            "biller (x)",
            "Correct EXPRESSYNC_SYNC_DATABASE_URL",
        ),
        ({"versions": {"preauth": ("0001",)}}, "database.migrations", "no", "sync is empty", "expressync migrate"),
        (
            {"versions": {"preauth": ("0001",), "sync": ("0001",)}},
            "database.migrations",
            "no",
            "sync is at 0001, and the code expects 0002",
            "expressync migrate",
        ),
        (
            {"versions": {"preauth": ("0001",), "sync": ("0009",)}, "unknown": frozenset({"sync"})},
            "database.migrations",
            "no",
            "sync is at 0009",
            "newer release",
        ),
        (
            {"access": {"preauth": Role(attempted=True, reads=("sync",)), "sync": Role(attempted=True)}},
            "database.isolation",
            "no",
            "preauth can read sync",
            "REVOKE",
        ),
        (
            {"access": {"preauth": Role(attempted=True), "sync": Role(attempted=False)}},
            "database.isolation",
            "unknown",
            "sync",
            "expressync migrate",
        ),
        ({"access": {}}, "database.isolation", "unknown", "preauth and sync", "expressync migrate"),
    ],
)
def test_what_is_wrong_with_a_database_is_named_with_a_remedy(
    change: dict[str, Any], check: str, answer: str, words: str, remedy: str
) -> None:
    """Each fault is a finding of its own check, in words that say what to do."""
    found = {one.id: one for one in rules.judge(replace(FINE, **change))}[check]
    assert found.answer == answer
    assert words in found.why
    assert found.remedy is not None
    assert remedy in found.remedy


@pytest.mark.parametrize("change", [{"running": False}, {"problem": "Connection refused."}])
def test_what_follows_an_unreachable_database_is_unknown(change: dict[str, Any]) -> None:
    """Nothing behind a closed door is called fine."""
    answers = {one.id: one.answer for one in rules.judge(replace(FINE, **change))}
    assert {answers[check] for check in rules.AFTER} == {"unknown"}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            'connection to server at "127.0.0.1" failed: FATAL:  password authentication failed for user "x"\n',
            'password authentication failed for user "x".',
        ),
        ("connection to h failed: Connection refused\n\tIs the server running?", "refused."),
        ("", "it does not answer."),
    ],
)
def test_only_the_telling_line_of_libpq_is_repeated(message: str, words: str) -> None:
    """The message of libpq for several addresses is cut down to the line that tells."""
    assert rules.last_words(message).endswith(words)
    assert "Is the server running" not in rules.last_words(message)
