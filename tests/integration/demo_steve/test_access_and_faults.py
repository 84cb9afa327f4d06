import asyncio
from collections.abc import AsyncIterator
from copy import copy
from dataclasses import replace
from time import perf_counter

import httpx
import pytest

from deploy.demo.steve.faults import Fault, FaultName
from deploy.demo.steve.settings import MissingCredentials, SteveSettings, SteveVersion
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from tests.integration.demo_steve.support import API, QUICK, rest_client


@pytest.fixture
async def bare(steve: SteveSimulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client that sends no credentials."""
    async with httpx.AsyncClient(base_url=steve.rest_url, trust_env=False) as client:
        yield client


async def test_wrong_credentials_are_401(steve: SteveSimulator, bare: httpx.AsyncClient) -> None:
    """A wrong password gets the error body with 401."""
    response = await bare.get(f"{API}/ocppTags", auth=("steve", "wrong"))
    assert response.status_code == 401
    body = response.json()
    assert (body["status"], body["error"]) == (401, "Unauthorized")
    assert body["path"] == f"{steve.rest_url}{API}/ocppTags"


@pytest.mark.parametrize(
    ("setting", "status", "kind"),
    [("401", 401, "application/json"), ("403", 403, "text/html"), ("redirect", 302, "")],
)
async def test_missing_credentials(setting: MissingCredentials, status: int, kind: str) -> None:
    """A call without credentials is 401, 403 or sent to the login page, whichever is set."""
    async with (
        run_steve(replace(QUICK, missing_credentials=setting)) as steve,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        response = await client.get(f"{steve.rest_url}{API}/ocppTags")
        assert response.status_code == status
        assert response.headers.get("content-type", "").startswith(kind)
        if status == 302:
            page = await client.get(steve.rest_url + response.headers["location"])
            assert "Sign In" in page.text


async def test_old_versions_want_an_api_key() -> None:
    """3.6 and 3.7 take STEVE-API-KEY and no Basic credentials."""
    settings = replace(QUICK, version=SteveVersion(3, 7), api_key="key-1")
    async with run_steve(settings) as steve, httpx.AsyncClient(trust_env=False) as client:
        url = f"{steve.rest_url}{API}/ocppTags"
        assert (await client.get(url, headers={"STEVE-API-KEY": "key-1"})).status_code == 200
        assert (await client.get(url, headers={"STEVE-API-KEY": "key-2"})).status_code == 401
        assert (await client.get(url, auth=("steve", "steve"))).status_code == 401


async def test_the_password_check_costs_time_on_every_call() -> None:
    """The bcrypt cost is paid by each call, also on one connection."""
    async with (
        run_steve(replace(QUICK, auth_delay_ms=60)) as steve,
        httpx.AsyncClient(auth=("steve", "steve"), trust_env=False) as client,
    ):
        for _ in range(2):
            began = perf_counter()
            await client.get(f"{steve.rest_url}{API}/ocppTags")
            assert perf_counter() - began >= 0.06


async def test_paths_that_do_not_exist_are_404(rest: httpx.AsyncClient) -> None:
    """Unknown paths carry SteVe's error body, too."""
    response = await rest.get("/chargePoints")
    assert response.status_code == 404
    assert response.json()["error"] == "Not Found"


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (Fault(name="5xx", value=503, times=1), 503, "application/json"),
        (Fault(name="5xx", times=1), 500, "application/json"),
        (Fault(name="html", times=1), 502, "text/html"),
        (Fault(name="login_redirect", times=1), 302, ""),
        (Fault(name="wrong_credentials", times=1), 401, "application/json"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
async def test_answers_that_are_faults(
    steve: SteveSimulator, rest: httpx.AsyncClient, fault: Fault, status: int, kind: str
) -> None:
    """A fault strikes as often as it says, then all is well again."""
    steve.faults.replace([copy(fault)])
    response = await rest.get("/ocppTags")
    assert response.status_code == status
    assert response.headers.get("content-type", "").startswith(kind)
    assert (await rest.get("/ocppTags")).status_code == 200


@pytest.mark.parametrize("name", ["down", "drop_before"])
async def test_a_dropped_request_is_not_carried_out(
    steve: SteveSimulator, rest: httpx.AsyncClient, name: FaultName
) -> None:
    """The connection is cut and nothing has changed."""
    steve.faults.set(name, times=1)
    with pytest.raises(httpx.TransportError):
        await rest.post("/ocppTags", json={"idTag": "CARD"})
    assert steve.state.tag("CARD") is None


async def test_an_answer_lost_after_the_commit(steve: SteveSimulator, rest: httpx.AsyncClient) -> None:
    """The change is made, the answer never comes, and the repetition finds it made."""
    steve.faults.set("drop_after_commit", methods=("POST", "PUT", "PATCH"), times=1)
    with pytest.raises(httpx.TransportError):
        await rest.post("/ocppTags", json={"idTag": "CARD"})
    assert steve.state.tag("CARD") is not None
    assert (await rest.post("/ocppTags", json={"idTag": "CARD"})).status_code == 422


async def test_slow_means_late_not_wrong(steve: SteveSimulator, rest: httpx.AsyncClient) -> None:
    """The answer comes, after the delay."""
    steve.faults.set("slow", 80, times=1)
    began = perf_counter()
    assert (await rest.get("/ocppTags")).status_code == 200
    assert perf_counter() - began >= 0.08


async def test_a_stopped_rest_refuses_and_comes_back_on_its_port(
    steve: SteveSimulator, rest: httpx.AsyncClient
) -> None:
    """Connections are refused until REST is started again, at the same address."""
    await steve.stop_rest()
    with pytest.raises(httpx.ConnectError):
        await rest.get("/ocppTags")
    await steve.start_rest()
    assert (await rest.get("/ocppTags")).status_code == 200


async def test_faults_can_be_set_from_outside(
    steve: SteveSimulator, rest: httpx.AsyncClient, bare: httpx.AsyncClient
) -> None:
    """POST /_sim/faults replaces the faults, also when REST is down; nonsense is 400."""
    fault = {"name": "down", "path": f"{API}/ocppTags"}
    assert (await bare.post("/_sim/faults", json=[fault])).status_code == 200
    with pytest.raises(httpx.TransportError):
        await rest.get("/ocppTags")
    assert (await rest.get("/transactions")).status_code == 200
    assert (await bare.post("/_sim/faults", json=[{"name": "meteor"}])).status_code == 400
    assert steve.faults.active == [Fault(name="down", path=f"{API}/ocppTags")]
    await bare.post("/_sim/faults", json=[])
    assert (await rest.get("/ocppTags")).status_code == 200


async def test_the_state_can_be_seen_and_filled_from_outside(
    steve: SteveSimulator, rest: httpx.AsyncClient, bare: httpx.AsyncClient
) -> None:
    """/_sim seeds tags, chargers and histories, and shows them with the counts of requests."""
    seed = {"tags": [{"id_tag": "CARD"}], "chargers": [{"charge_box_id": "CP-9", "password": "x"}]}
    assert (await bare.post("/_sim/seed", json=seed)).status_code == 204
    history = {
        "charge_box_id": "CP-9",
        "id_tag": "CARD",
        "start_at": "2026-05-01T12:00:00Z",
        "energy_wh": 500,
        "duration_s": 60,
        "every_s": 100,
        "count": 3,
    }
    made = await bare.post("/_sim/transactions", json=history)
    assert made.json() == {"first": 1, "last": 3}
    assert steve.state.transactions[3].start_value == "1000"
    await rest.get("/ocppTags/1")
    await rest.get("/ocppTags/1")
    state = (await bare.get("/_sim/state")).json()
    assert state["requests"]["GET /ocppTags/{pk}"] == 2
    assert state["transactions"] == 3
    assert [(one["charge_box_id"], one["password"]) for one in state["chargers"]] == [
        ("CP-1", None),
        ("CP-9", None),
    ]


async def test_password_checks_queue_for_the_cores() -> None:
    """Bcrypt keeps a core busy: ten calls at once on two cores take five checks' time, and not one's."""
    async with run_steve(SteveSettings(auth_delay_ms=50, auth_cores=2)) as steve, rest_client(steve) as rest:
        began = perf_counter()
        answers = await asyncio.gather(*(rest.get("/ocppTags") for _ in range(10)))
        assert perf_counter() - began >= 0.25
    assert {answer.status_code for answer in answers} == {200}
