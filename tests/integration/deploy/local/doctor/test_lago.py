from typing import Any

import pytest

from deploy.demo.lago import LagoSettings, SimulatedLago, run_lago
from deploy.local.doctor.lago.ask import check
from deploy.local.doctor.result import Result
from deploy.local.doctor.target import Target
from deploy.local.home import Home
from tests.integration.deploy.local.doctor.conftest import SECRET, answers, by_id

PREFIX = "EXPRESSYNC_SYNC_"
CHARGE = {"metric_code": "ev_charging_kwh", "amount": "0.39"}


def seed(*, aggregation: str = "sum_agg", field: str = "kwh", plans: int = 1, charged: bool = True) -> dict[str, Any]:
    """Plans of which the last one has the charge."""
    return {
        "metrics": [{"code": "ev_charging_kwh", "aggregation_type": aggregation, "field_name": field}],
        "plans": [
            {"code": f"plan{number}", "charges": [CHARGE] if charged and number == plans else []}
            for number in range(1, plans + 1)
        ],
    }


def settings(**given: Any) -> LagoSettings:  # noqa: ANN401 - as LagoSettings takes them
    return LagoSettings(**{"api_key": SECRET, "seed": seed(), **given})


async def ask(lago: SimulatedLago, **given: str) -> list[Result]:
    variables = {"LAGO_URL": lago.url, "LAGO_API_KEY": SECRET, **given}
    found = await check(
        Target(Home.of("live"), None, {f"{PREFIX}{name}": value for name, value in variables.items() if value})
    )
    assert SECRET not in str(found)
    return found


@pytest.mark.parametrize(("store", "words"), [("postgres", "PostgreSQL"), ("clickhouse", "ClickHouse")])
async def test_a_lago_that_is_set_up_is_fine_and_its_store_is_named(store: str, words: str) -> None:
    """Reachable, authorised, with its metric and a charge; where it keeps events is said."""
    async with run_lago(settings(events_store=store)) as lago:
        results = await ask(lago)
        assert not [route for route in lago.requests.by_route if not route.startswith("GET ")]
    assert set(answers(results).values()) == {"yes"}
    assert words in results[1].why


@pytest.mark.parametrize(
    ("given", "check_id", "words"),
    [
        ({"seed": seed(aggregation="count_agg")}, "lago.metric", "by count_agg; it must be the sum (sum_agg)"),
        ({"seed": seed(field="wh")}, "lago.metric", "sums up 'wh'"),
        ({"seed": {}}, "lago.metric", "no billable metric ev_charging_kwh"),
        ({"seed": {}}, "lago.charge", "There is no plan"),
        ({"seed": seed(charged=False)}, "lago.charge", "None of the 1 plans has a charge"),
        ({"api_key": "another"}, "lago.authorised", "401"),
    ],
)
async def test_what_would_keep_usage_unbilled_is_found(given: dict[str, Any], check_id: str, words: str) -> None:
    """A metric that does not sum what is sent, a plan without a charge, a wrong key: each is its own finding."""
    async with run_lago(settings(**given)) as lago:
        found = by_id(await ask(lago))[check_id]
    assert found.answer == "no"
    assert words in found.why
    assert found.remedy


async def test_a_charge_is_found_on_a_later_page_of_plans() -> None:
    """All pages of plans are looked through before one says that none charges."""
    async with run_lago(settings(seed=seed(plans=101))) as lago:
        found = by_id(await ask(lago))["lago.charge"]
    assert found.answer == "yes"
    assert "plan101" in found.why


async def test_other_names_of_metric_and_property_are_followed() -> None:
    """The metric's code and property are settings, and the configured ones are looked for."""
    async with run_lago(settings()) as lago:
        found = by_id(await ask(lago, METRIC_CODE="other"))
    assert "no billable metric other" in found["lago.metric"].why
    assert found["lago.charge"].answer == "no"


@pytest.mark.parametrize(
    ("fault", "expected", "words"),
    [
        ("html_502", "no unknown unknown unknown", "answered 502, not in JSON"),
        ("down", "no unknown unknown unknown", "cannot be reached"),
        ("empty_5xx", "no unknown unknown unknown", "without a word"),
        ("login_redirect", "yes no unknown unknown", "redirects to /login"),
        ("http_429", "yes unknown unknown unknown", "rate limit"),
    ],
)
async def test_what_stands_in_the_way_is_named_as_what_it_is(fault: str, expected: str, words: str) -> None:
    """A proxy's page, a dropped connection, a login page and a rate limit are told apart."""
    async with run_lago(settings()) as lago:
        lago.faults.add(fault)
        results = await ask(lago)
    assert " ".join(one.answer for one in results) == expected
    assert words in next(one for one in results if one.answer != "yes").why


async def test_a_lago_that_fails_halfway_leaves_the_rest_unknown() -> None:
    """What is asked after the key was accepted may still fail: unknown, and never no."""
    async with run_lago(settings()) as lago:
        lago.faults.add("http_500", path="/api/v1/plans")
        lago.faults.add("down", path="/api/v1/billable_metrics")
        results = await ask(lago)
    assert [one.answer for one in results] == ["yes", "yes", "unknown", "unknown"]


async def test_a_missing_key_is_told_beside_whether_lago_answers() -> None:
    """Without a key, reachability can still be told."""
    async with run_lago(settings()) as lago:
        results = await ask(lago, LAGO_API_KEY="")
        await lago.unplug()
        off = await ask(lago, LAGO_API_KEY="")
    assert [one.answer for one in results] == ["yes", "no", "unknown", "unknown"]
    assert f"{PREFIX}LAGO_API_KEY is not set" in results[1].why
    assert off[0].answer == "no"


@pytest.mark.parametrize("url", ["", "lago.example.com", "http://["])
async def test_an_address_that_is_none_is_told(url: str) -> None:
    """A missing or malformed address ends in a finding and not in an error."""
    results = await check(Target(Home.of("live"), None, {f"{PREFIX}LAGO_URL": url}))
    assert [one.answer for one in results] == ["no", "unknown", "unknown", "unknown"]
