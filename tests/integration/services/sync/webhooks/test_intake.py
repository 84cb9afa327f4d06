"""`POST /webhooks/lago`: the simulated Lago's webhooks, and what attackers and faults make of them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs

from deploy.demo.lago import LagoSettings, lifecycle
from deploy.demo.lago.webhooks import Delivery, new_signing_key
from services.sync.webhooks import http as intake_http
from shared.database.engine import conninfo
from shared.web.server import HttpServer, bind
from tests.integration.services.sync.conftest import LAGO_SEED, Build, World, eventually

KEY = "lago-simulator-hmac-key"
PATH = "/webhooks/lago"
FORGED = {"X-Lago-Signature": "x", "X-Lago-Signature-Algorithm": "hmac"}


@contextlib.asynccontextmanager
async def serving(world: World) -> AsyncIterator[str]:
    """The endpoint on a real port; its address is given to the simulated Lago as well."""
    server = HttpServer("http", Starlette(routes=[world.rooms.intake.route()]), bind("127.0.0.1", 0, setting="none"))
    stop = asyncio.Event()
    running = asyncio.create_task(server.run(stop))
    url = f"http://127.0.0.1:{server.port}{PATH}"
    world.lago.webhooks.url = url
    try:
        yield url
    finally:
        stop.set()
        await running


@pytest.fixture
async def world(build_world: Build) -> World:
    return await build_world(
        lago=LagoSettings(seed=LAGO_SEED, webhook_time_factor=0.02), lago_webhook_key=f"an-older-key, {KEY}"
    )


@pytest.fixture
async def url(world: World) -> AsyncIterator[str]:
    async with serving(world) as address:
        yield address


def headers(world: World, body: bytes, algorithm: Any = "hmac", key: str = "key-1") -> dict[str, str]:  # noqa: ANN401
    return {
        "X-Lago-Signature": world.lago.webhooks.signer.sign(body, algorithm),
        "X-Lago-Signature-Algorithm": algorithm,
        "X-Lago-Unique-Key": key,
    }


def payload(world: World, webhook_type: str = "feature.created", object_type: str = "feature", **content: Any) -> bytes:  # noqa: ANN401
    return json.dumps(
        {
            "webhook_type": webhook_type,
            "object_type": object_type,
            "organization_id": world.lago.state.organization_id,
            object_type: content,
        }
    ).encode()


async def post(url: str, body: bytes, given: dict[str, str]) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.post(url, content=body, headers=given)


async def stored(world: World) -> list[Any]:
    return await world.rows("SELECT * FROM sync.webhook ORDER BY received_at, unique_key")


async def settled(delivery: Delivery) -> str:
    async def over() -> bool:
        await asyncio.sleep(0)
        return delivery.state != "pending"

    await eventually(over)
    return delivery.state


@pytest.mark.parametrize("algorithm", ["hmac", "jwt"])
async def test_lagos_own_webhooks_are_stored_once_and_told(world: World, url: str, algorithm: Any) -> None:  # noqa: ANN401
    """Both signatures of a real Lago are accepted; the raw body is kept and one event says that it came."""
    world.lago.webhooks.algorithm = algorithm
    lifecycle.terminate(world.lago.state, "sub_bob")
    deliveries = world.lago.webhooks.deliveries
    assert [one.webhook_type for one in deliveries] == ["invoice.created", "subscription.terminated"]
    for one in deliveries:
        assert await settled(one) == "succeeded"
        assert one.statuses == [200]
    rows = {row.webhook_type: row for row in await stored(world)}
    ended = rows["subscription.terminated"]
    assert (bytes(ended.body), ended.unique_key) == (deliveries[1].body, deliveries[1].unique_key)
    assert (ended.state, ended.object_id, ended.algorithm) == ("waiting", "sub_bob", algorithm)
    events = await world.events("webhook.received")
    assert {(one.data["unique_key"], one.data["object_id"]) for one in events} == {
        (deliveries[0].unique_key, None),
        (deliveries[1].unique_key, "sub_bob"),
    }
    assert {one.actorkind for one in events} == {"upstream"}


async def test_a_key_is_stored_once_however_often_it_is_sent(world: World, url: str) -> None:
    """Lago's further tries and an operator's redelivery are answered well and change nothing."""
    delivery = world.lago.webhooks.send("feature.created", "feature", {"external_id": "f"})
    assert delivery is not None
    await settled(delivery)
    again = headers(world, delivery.body, key=delivery.unique_key)
    answers = await asyncio.gather(*(post(url, delivery.body, again) for _ in range(10)))
    assert {one.status_code for one in answers} == {200}
    assert len(await stored(world)) == 1
    assert len(await world.events("webhook.received")) == 1


async def test_ten_first_deliveries_at_once_are_one(world: World, url: str) -> None:
    """The first of many at the same time is the one that is told."""
    body = payload(world)
    answers = await asyncio.gather(*(post(url, body, headers(world, body)) for _ in range(10)))
    assert sorted(one.json()["stored"] for one in answers) == ["known"] * 9 + ["new"]
    assert len(await world.events("webhook.received")) == 1


@pytest.mark.parametrize("algorithm", ["hmac", "jwt"])
async def test_a_changed_byte_is_refused(world: World, url: str, algorithm: str) -> None:
    """A body that is not exactly what was signed is not stored, under either algorithm."""
    body = payload(world)
    answer = await post(url, body.replace(b"feature.created", b"feature.creates"), headers(world, body, algorithm))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert await stored(world) == []


@pytest.mark.parametrize("missing", ["X-Lago-Signature", "X-Lago-Signature-Algorithm", "X-Lago-Unique-Key"])
async def test_without_its_headers_it_is_refused(world: World, url: str, missing: str) -> None:
    """A signature, how it was made, and the key are needed, each."""
    body = payload(world)
    given = headers(world, body)
    given.pop(missing)
    answer = await post(url, body, given)
    assert answer.status_code == (400 if missing == "X-Lago-Unique-Key" else 401)
    assert await stored(world) == []


async def test_one_algorithms_signature_is_not_the_others(world: World, url: str) -> None:
    """The header that names the algorithm does not turn one into the other, and unknown ones open nothing."""
    body = payload(world)
    for signed_as, said in (("hmac", "jwt"), ("jwt", "hmac"), ("hmac", "none"), ("hmac", "HMAC")):
        given = headers(world, body, signed_as) | {"X-Lago-Signature-Algorithm": said}
        assert (await post(url, body, given)).status_code == 401
    assert await stored(world) == []


async def test_another_organisation_of_the_same_lago_is_refused(world: World, url: str) -> None:
    """One Lago signs for all its organisations with one key: a token alone does not make a webhook ours."""
    body = payload(world).replace(world.lago.state.organization_id.encode(), b"00000000-0000-0000-0000-000000000000")
    answer = await post(url, body, headers(world, body, "jwt"))
    assert answer.status_code == 403
    assert await stored(world) == []


async def test_another_issuer_is_refused_unless_it_is_set(build_world: Build) -> None:
    """Lago may call itself otherwise than we call it; the setting says how, and only that is accepted."""
    world = await build_world(lago_webhook_issuer="https://billing.example")
    async with serving(world) as url:
        body = payload(world)
        assert (await post(url, body, headers(world, body, "jwt"))).status_code == 401
        world.lago.webhooks.signer.issuer = "https://billing.example"
        assert (await post(url, body, headers(world, body, "jwt"))).status_code == 200


async def test_without_a_key_of_ours_only_a_token_is_accepted(build_world: Build) -> None:
    """No HMAC key set: what is signed with one is refused, and Lago's RSA signature is enough."""
    world = await build_world()
    async with serving(world) as url:
        body = payload(world)
        assert (await post(url, body, headers(world, body))).status_code == 401
        assert (await post(url, body, headers(world, body, "jwt"))).status_code == 200


async def test_a_new_key_of_lagos_is_asked_for_and_forgeries_are_no_flood(world: World, url: str) -> None:
    """What does not verify has Lago asked for its key again, once a minute at most."""
    body = payload(world)
    assert (await post(url, body, headers(world, body, "jwt"))).status_code == 200
    world.lago.webhooks.signer.pem = new_signing_key()
    rotated = headers(world, body, "jwt", key="key-2")
    asked = world.lago.requests.total
    for _ in range(5):
        assert (await post(url, body, rotated)).status_code == 401
    assert world.lago.requests.total == asked
    world.clock.advance(seconds=61)
    assert (await post(url, body, rotated)).status_code == 200
    forged = rotated | {"X-Lago-Signature": rotated["X-Lago-Signature"][:-8] + "AAAAAAAA"}
    asked = world.lago.requests.total
    for _ in range(5):
        assert (await post(url, body, forged)).status_code == 401
    assert world.lago.requests.total == asked


async def test_a_lago_that_does_not_tell_its_key_is_no_forgery(world: World, url: str) -> None:
    """Whether a token is Lago's cannot be told then: 503, so that Lago sends it again, and it is accepted later."""
    body = payload(world)
    world.lago.faults.add("down")
    answer = await post(url, body, headers(world, body, "jwt"))
    assert answer.status_code == 503
    assert (await post(url, body, headers(world, body, key="by-hmac"))).status_code == 200
    world.lago.faults.clear()
    world.clock.advance(seconds=10)
    world.rooms.lago._caller._breaker.succeeded()
    assert (await post(url, body, headers(world, body, "jwt"))).status_code == 200


async def test_a_body_beyond_the_limit_is_not_read(world: World, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its declared length at once, and without one as soon as too much has come in."""
    monkeypatch.setattr(intake_http, "MOST_BYTES", 1_000)
    body = payload(world, text="x" * 2_000)
    assert (await post(url, body, headers(world, body))).status_code == 413

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1_000

    async with httpx.AsyncClient() as client:
        answer = await client.post(url, content=chunks(), headers=headers(world, body))
    assert answer.status_code == 413
    assert await stored(world) == []


async def test_a_large_invoice_is_taken_under_both_signatures(world: World, url: str) -> None:
    """A megabyte is a large invoice and no attack, also where the token in the header is larger than that."""
    body = payload(world, "invoice.created", "invoice", customer={"external_id": "cus_ada"}, fees=["é" * 100] * 1_800)
    assert len(body) > 1_000_000
    for algorithm in ("hmac", "jwt"):
        answer = await post(url, body, headers(world, body, algorithm, key=algorithm))
        assert answer.status_code == 200, answer.text


async def test_a_sender_that_stops_in_the_middle_is_not_waited_for(
    world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that does not come is given up."""
    monkeypatch.setattr(intake_http, "READ_WITHIN_S", 0.2)
    host, port = url.removeprefix("http://").removesuffix(PATH).split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
    async with asyncio.timeout(5):
        assert b"408" in await reader.readline()
    writer.close()
    assert await stored(world) == []


@pytest.mark.parametrize(
    "body", [b"no json", b"[]", b'{"webhook_type": "a.b"}', b'{"webhook_type":"a","object_type":7}']
)
async def test_signed_nonsense_is_refused_and_not_stored(world: World, url: str, body: bytes) -> None:
    """The signature is Lago's and the content is none of its webhooks: 400, and nothing is kept."""
    answer = await post(url, body, headers(world, body))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body")
    assert await stored(world) == []


async def test_another_body_under_a_known_key_is_a_conflict(world: World, url: str) -> None:
    """The first one stays; the other one is refused, so that Lago shows it as not delivered."""
    first, second = payload(world, n=1), payload(world, n=2)
    assert (await post(url, first, headers(world, first))).status_code == 200
    answer = await post(url, second, headers(world, second))
    assert (answer.status_code, answer.json()["code"]) == (409, "unique_key_reused")
    assert [bytes(row.body) for row in await stored(world)] == [first]


async def test_what_could_not_be_stored_is_not_acknowledged(world: World, url: str) -> None:
    """A failed store answers 5xx and Lago tries again: stored at a later try, it is one webhook with one event."""
    with psycopg.connect(conninfo(world.admin_url), autocommit=True) as admin:
        admin.execute("ALTER TABLE sync.outbox RENAME TO outbox_gone")
        body = payload(world)
        assert (await post(url, body, headers(world, body))).status_code == 503
        delivery = world.lago.webhooks.send("feature.created", "feature", {"external_id": "f"})
        assert delivery is not None

        async def tried() -> bool:
            await asyncio.sleep(0)
            return delivery.statuses[:1] == [503]

        await eventually(tried)
        assert await stored(world) == []
        admin.execute("ALTER TABLE sync.outbox_gone RENAME TO outbox")
    assert await settled(delivery) == "succeeded"
    assert delivery.statuses[-1] == 200
    assert [row.unique_key for row in await stored(world)] == [delivery.unique_key]
    assert len(await world.events("webhook.received")) == 1


async def test_nothing_else_is_served(world: World, url: str) -> None:
    """POST on this path, and nothing besides."""
    async with httpx.AsyncClient() as client:
        assert (await client.get(url)).status_code == 405
        assert (await client.post(url + "/x")).status_code == 404
        assert (await client.get(url.removesuffix(PATH) + "/healthz")).status_code == 404


@pytest.mark.parametrize(
    ("body", "given", "code"),
    [
        pytest.param(
            b"{}", {"X-Lago-Signature": "x", "X-Lago-Signature-Algorithm": "hmac"}, "unauthorized", id="forged"
        ),
        pytest.param(b"{", None, "invalid_body", id="JSON"),
        pytest.param(b"x" * (intake_http.MOST_BYTES + 1), None, "body_too_large", id="size"),
    ],
)
async def test_a_refused_webhook_leaves_a_line_of_log_and_nothing_else(
    world: World, url: str, body: bytes, given: dict[str, str] | None, code: str
) -> None:
    """A bad signature, bad JSON and too large a body: the sender gets the code, the log too, and no table a row."""
    with capture_logs() as lines:
        answer = await post(url, body, given or headers(world, body))
    assert answer.json()["code"] == code
    [line] = [line for line in lines if line.get("action") == "webhook.refused"]
    assert line["code"] == code
    assert await stored(world) == []
    assert await world.events() == []
