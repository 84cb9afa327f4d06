from dataclasses import replace
from typing import Any

import pytest

from deploy.local.doctor.lago import rules
from deploy.local.doctor.lago.rules import Found
from deploy.local.doctor.upstream import WELL, Heard

FINE = Found(WELL, code="ev_charging_kwh", property="kwh", plan="ev", plans_seen=1)
SILENT = Heard("timed_out", "did not answer in time")


@pytest.mark.parametrize(
    ("change", "verdict", "check", "words", "remedy"),
    [
        ({}, "yes yes yes yes", 3, "ev", ""),
        ({"events_store": "clickhouse"}, "yes yes yes yes", 1, "ClickHouse", ""),
        ({"organization": SILENT}, "no unknown unknown unknown", 0, "did not answer", "Start Lago"),
        (
            {"organization": Heard("server_error", "answered 502, not in JSON")},
            "no unknown unknown unknown",
            0,
            "502",
            "proxy",
        ),
        (
            {"organization": Heard("unauthorized", "does not accept our credentials (401)")},
            "yes no unknown unknown",
            1,
            "401",
            "LAGO_API_KEY",
        ),
        (
            {"organization": Heard("redirected", "redirects to /login")},
            "yes no unknown unknown",
            1,
            "/login",
            "LAGO_URL",
        ),
        (
            {"organization": Heard("rate_limited", "has a rate limit")},
            "yes unknown unknown unknown",
            1,
            "rate limit",
            "Ask again",
        ),
        ({"gate": SILENT}, "yes yes unknown yes", 2, "did not answer", "Ask again"),
        (
            {"objection": "has no billable metric ev_charging_kwh"},
            "yes yes no yes",
            2,
            "no billable metric",
            "sum_agg",
        ),
        ({"plans": SILENT, "plan": None}, "yes yes yes unknown", 3, "did not answer", "Ask again"),
        ({"plan": None}, "yes yes yes no", 3, "None of the 1 plans", "add a charge"),
        ({"plan": None, "plans_seen": 0}, "yes yes yes no", 3, "There is no plan on", "add a charge"),
        ({"plan": None, "more_plans": True}, "yes yes yes unknown", 3, "there are more", "plans of your customers"),
    ],
)
def test_how_lago_stands(change: dict[str, Any], verdict: str, check: int, words: str, remedy: str) -> None:
    """Each thing that keeps usage from being billed is a finding of its own."""
    results = rules.judge(replace(FINE, **change))
    assert " ".join(one.answer for one in results) == verdict
    assert words in results[check].why
    assert remedy in (results[check].remedy or "")


def test_a_missing_webhook_key_is_information() -> None:
    """Without an HMAC key webhooks still come by JWT, so it is said and is no fault."""
    assert rules.webhooks(key=False).answer == "yes"
    assert "EXPRESSYNC_SYNC_LAGO_WEBHOOK_KEY" in rules.webhooks(key=False).why
    assert rules.webhooks(key=True).answer == "yes"


def test_a_missing_key_and_a_missing_address_are_named() -> None:
    """What is not set is named by its variable."""
    assert "EXPRESSYNC_SYNC_LAGO_API_KEY" in rules.no_key()[0].why
    assert [one.answer for one in rules.no_address()] == ["no", "unknown", "unknown", "unknown"]
