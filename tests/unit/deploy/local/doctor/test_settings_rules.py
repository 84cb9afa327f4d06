from typing import Any

import pytest

from deploy.local.doctor.settings import rules

KNOWN = frozenset({"EXPRESSYNC_AMQP_URL", "EXPRESSYNC_SYNC_STEVE_URL", "EXPRESSYNC_LOG_LEVEL"})
SERVICES = ("preauth", "sync", "audit", "admin_api")


@pytest.mark.parametrize(
    ("given", "answer", "word"),
    [
        ({"kind": "live", "env_file": ".env", "running": True}, "yes", ".env"),
        ({"kind": "live", "env_file": ".env", "from_environment": True}, "yes", "does not run"),
        ({"kind": "live", "from_environment": True}, "yes", "environment"),
        ({"kind": "demo", "running": True}, "yes", "demo"),
        ({"kind": "live"}, "no", "no stack runs"),
        ({"kind": "live", "env_file": ".env", "unreadable": [3, 7]}, "no", "line 3 and 7"),
    ],
)
def test_the_source_of_the_settings_is_named(given: dict[str, Any], answer: str, word: str) -> None:
    """The report says first which installation it is about, and says no only where there is none."""
    found = rules.source(**{"env_file": None, "from_environment": False, "running": False, **given})
    assert found.answer == answer
    assert word in found.why


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"EXPRESSYNC_AMPQ_URL"}, ["EXPRESSYNC_AMPQ_URL is not a setting", "did you mean EXPRESSYNC_AMQP_URL?"]),
        ({"EXPRESSYNC_SNYC_STEVE_URL"}, ["did you mean EXPRESSYNC_SYNC_STEVE_URL?"]),
        ({"EXPRESSYNC_ZZZ"}, ["EXPRESSYNC_ZZZ is not a setting."]),
    ],
)
def test_a_misspelt_variable_is_named_with_what_was_meant(given: set[str], words: list[str]) -> None:
    """A variable that begins like ours and is nobody's setting is a finding."""
    found = rules.names(given, KNOWN, SERVICES)
    assert found.answer == "no"
    assert all(word in found.why for word in words)


@pytest.mark.parametrize(
    "given",
    [
        set(),
        {"EXPRESSYNC_AMQP_URL", "EXPRESSYNC_HOME", "EXPRESSYNC_TOKEN", "EXPRESSYNC_TEST_AMQP_URL", "OTHER"},
        # Under a service's own prefix: the service's own check names it.
        {"EXPRESSYNC_SYNC_STEVE_ULR"},
    ],
)
def test_known_and_foreign_variables_are_no_finding(given: set[str]) -> None:
    """Settings, the launcher's and the commands' variables, and those of other programs are left alone."""
    assert rules.names(given, KNOWN, SERVICES).answer == "yes"


def test_what_is_wrong_with_a_services_settings_is_listed_by_variable() -> None:
    """Every problem the service would stop with is in the answer."""
    found = rules.service("sync", ["EXPRESSYNC_SYNC_STEVE_ID is not set", "EXPRESSYNC_SYNC_PORT: too large"], {})
    assert (found.id, found.answer) == ("settings.sync", "no")
    assert found.why == "EXPRESSYNC_SYNC_STEVE_ID is not set; EXPRESSYNC_SYNC_PORT: too large."
    assert rules.service("sync", [], {}).answer == "yes"


@pytest.mark.parametrize(
    ("problem", "given", "said"),
    [
        ("V: 'hunter2' is no SteVe release", {"V": "hunter2"}, "V: the value is no SteVe release"),
        ("V: hunter2 is wrong", {"V": "hunter2"}, "V: the value is wrong"),
        ("V: 'x' is wrong", {"W": "x"}, "V: the value is wrong"),
        ("V: debug, info or warning", {"W": "info"}, "V: debug, info or warning"),
        ("V: 1 to 12", {"V": "2"}, "V: 1 to 12"),
    ],
)
def test_a_value_is_never_repeated(problem: str, given: dict[str, str], said: str) -> None:
    """A value that a validator's sentence repeats is taken out: it may be a secret in the wrong place."""
    assert rules.without_value(problem, given) == said


@pytest.mark.parametrize(
    ("now", "started", "answer", "named"),
    [
        ({"sync": {"A": "1"}}, {"sync": {"A": "1"}}, "yes", []),
        ({"sync": {"A": "2"}}, {"sync": {"A": "1"}}, "no", ["A"]),
        ({"sync": {"A": "1", "B": "1"}}, {"sync": {"A": "1"}}, "no", ["B"]),
        ({"sync": {}}, {"sync": {"A": "1"}}, "no", ["A"]),
        ({"sync": {"A": "1"}}, {}, "unknown", []),
    ],
)
def test_settings_changed_since_the_start_are_named(
    now: dict[str, dict[str, str]], started: dict[str, dict[str, str]], answer: str, named: list[str]
) -> None:
    """A setting that was changed, added or removed after the start needs a restart."""
    found = rules.applied(now, started)
    assert found.answer == answer
    assert all(name in found.why for name in named)
    assert "1" not in found.why
