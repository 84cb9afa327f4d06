import asyncio
import time

import httpx
import pytest

from deploy.demo.lago import Fault, RateLimits, SimulatedLago

from .conftest import Client, Run, event, eventually


async def test_drop_after_commit_stores_and_says_nothing(client: Client, lago: SimulatedLago) -> None:
    """The client cannot know; the retry finds a duplicate."""
    lago.faults.add("drop_after_commit", path="/api/v1/events", count=1)
    with pytest.raises(httpx.TransportError):
        await client.send_batch(event("a"), event("b"))
    assert len(lago.state.events) == 2
    again = await client.send_batch(event("a"), event("b"))
    assert set(again.json()["error_details"]) == {"0", "1"}


@pytest.mark.parametrize("name", ["drop_before", "down"])
async def test_a_connection_cut_before_stores_nothing(client: Client, lago: SimulatedLago, name: str) -> None:
    """Nothing happened, and the client cannot know that either."""
    lago.faults.add(name, path="/api/v1/events", count=1)
    with pytest.raises(httpx.TransportError):
        await client.send_event()
    assert len(lago.state.events) == 0
    assert lago.requests.by_status[0] == 1
    assert (await client.send_event()).status_code == 200


async def test_unplugged_it_refuses_connections(client: Client, lago: SimulatedLago) -> None:
    """Nobody listens, open connections are cut; plugged in again it is the same Lago at the same address."""
    assert (await client.send_event(transaction_id="before")).status_code == 200
    await lago.unplug()
    for _ in range(2):
        with pytest.raises(httpx.ConnectError):
            await client.send_event(transaction_id="during")
    await lago.plug_in()
    assert (await client.send_event(transaction_id="after")).status_code == 200
    assert [one.transaction_id for one in lago.state.events] == ["before", "after"]


@pytest.mark.parametrize(
    ("name", "value", "status", "content_type", "body"),
    [
        ("http_500", 0, 500, "application/json", "Internal Server Error"),
        ("http_503", 0, 503, "text/plain", "Service Unavailable"),
        ("html_502", 0, 502, "text/html", "<h1>502 Bad Gateway</h1>"),
        ("empty_5xx", 504, 504, "", ""),
        ("login_redirect", 0, 302, "text/html", "Sign in"),
    ],
)
async def test_answers_that_are_not_lagos(
    client: Client, lago: SimulatedLago, *, name: str, value: int, status: int, content_type: str, body: str
) -> None:
    """What proxies and a broken server answer, for the chosen paths only; nothing is stored."""
    lago.faults.add(name, value, path="/api/v1/events")
    answer = await client.send_event()
    assert answer.status_code == status
    assert answer.headers.get("content-type", "").startswith(content_type)
    assert body in answer.text
    assert bool(answer.text) is bool(body)
    assert len(lago.state.events) == 0
    assert (await client.get("/plans/ev")).status_code == 200
    lago.faults.clear(name)
    assert (await client.send_event()).status_code == 200


async def test_the_login_redirect_leads_to_a_page_with_200(client: Client, lago: SimulatedLago) -> None:
    """A client that follows redirects gets HTML and a success; nothing was delivered."""
    lago.faults.add("login_redirect", count=1)
    answer = await client.post("/events", json={"event": event()}, follow_redirects=True)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert len(lago.state.events) == 0


async def test_slow_answers_fill_the_few_threads(run: Run) -> None:
    """Six requests on three threads take twice the delay."""
    lago = await run(faults=(Fault(name="slow", value=150),))
    async with Client(lago) as client:
        started = time.monotonic()
        answers = await asyncio.gather(*(client.get("/plans/ev") for _ in range(6)))
        elapsed = time.monotonic() - started
    assert {answer.status_code for answer in answers} == {200}
    assert elapsed >= 0.3
    assert lago.requests.most_in_flight > 3


async def test_a_client_that_gives_up_may_have_been_heard(client: Client, lago: SimulatedLago) -> None:
    """A timeout on the client's side does not undo what arrives."""
    lago.faults.add("slow", 200, path="/api/v1/events", count=1)
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/events", json={"event": event("slow")}, timeout=0.05)
    await eventually(lambda: lago.state.events.find("slow") is not None)


async def test_limits_are_told_in_headers(run: Run) -> None:
    """429 with the seconds until the reset and no Retry-After; nothing of the request is stored."""
    lago = await run(limits=RateLimits(ingestion=3))
    async with Client(lago) as client:
        answers = [await client.send_event(transaction_id=f"t{number}") for number in range(12)]
        other = await client.get("/plans/ev")
    refused = [answer for answer in answers if answer.status_code == 429]
    accepted = [answer for answer in answers if answer.status_code == 200]
    assert len(refused) >= 3
    assert len(lago.state.events) == len(accepted)
    headers = refused[0].headers
    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("3", "0")
    assert headers["x-ratelimit-reset"] == "1"
    assert "retry-after" not in headers
    assert accepted[0].headers["x-ratelimit-remaining"] == "2"
    assert "x-ratelimit-limit" not in other.headers


async def test_faults_are_set_over_http(client: Client, lago: SimulatedLago) -> None:
    """`/_sim/faults` adds, lists and ends them; it needs no key and meets none of them itself."""
    sim = f"{lago.url}/_sim/faults"
    added = await client.post(sim, json={"name": "http_503", "path": "/api/v1", "count": 2})
    assert added.json()["faults"][0]["count"] == 2
    assert (await client.get("/plans/ev")).status_code == 503
    assert (await client.get(sim)).json()["faults"][0]["count"] == 1
    await client.post(sim, json={"fault": "slow=5,path=/api/v1/events"})
    assert (await client.delete(sim, params={"name": "http_503"})).json()["faults"][0]["name"] == "slow"
    assert (await client.delete(sim)).json() == {"faults": []}
    assert (await client.get("/plans/ev")).status_code == 200
    for wrong in ({"name": "explode"}, {"fault": "slow=much"}, {"colour": "red"}):
        assert (await client.post(sim, json=wrong)).status_code == 422


async def test_a_request_that_was_refused_leaves_the_connection_usable(client: Client, lago: SimulatedLago) -> None:
    """A large body answered early is read to its end."""
    lago.faults.add("http_503", count=1)
    large = [event(f"t{number}", properties={"note": "x" * 2000}) for number in range(100)]
    assert (await client.send_batch(*large)).status_code == 503
    assert (await client.send_batch(*large)).status_code == 200
