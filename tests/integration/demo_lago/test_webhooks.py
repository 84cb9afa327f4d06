import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from .conftest import Client, Run, eventually
from .receiver import Receiver, receive


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receive() as one:
        yield one


async def test_a_webhook_is_signed_over_its_raw_body(run: Run, receiver: Receiver) -> None:
    """HMAC-SHA256, base64, with the algorithm and the unique key in the headers."""
    lago = await run(webhook_url=receiver.url, webhook_hmac_key="secret")
    async with Client(lago) as client:
        await client.delete("/subscriptions/sub_1")
    await eventually(lambda: len(receiver.got) == 2)
    kinds = set()
    for headers, body in receiver.got:
        expected = base64.b64encode(hmac.new(b"secret", body, hashlib.sha256).digest()).decode()
        assert headers["x-lago-signature"] == expected
        assert headers["x-lago-signature-algorithm"] == "hmac"
        content = json.loads(body)
        kinds.add(content["webhook_type"])
        assert content["organization_id"] == lago.state.organization_id
        assert content[content["object_type"]]["lago_id"]
    assert kinds == {"invoice.created", "subscription.terminated"}
    assert len({headers["x-lago-unique-key"] for headers, _ in receiver.got}) == 2


async def test_a_jwt_is_verified_with_the_published_key(run: Run, receiver: Receiver) -> None:
    """RS256; `data` is the raw body, `iss` the API's URL, and it never expires."""
    lago = await run(webhook_url=receiver.url, webhook_algorithm="jwt")
    async with Client(lago) as client:
        await client.post("/customers", json={"customer": {"external_id": "cus_1", "name": "Élodie"}})
        answer = await client.get("/webhooks/json_public_key")
    await eventually(lambda: len(receiver.got) == 1)
    headers, body = receiver.got[0]
    key = RSAKey.import_key(base64.b64decode(answer.json()["webhook"]["public_key"]).decode())
    claims = jwt.decode(headers["x-lago-signature"], key, algorithms=["RS256"]).claims
    assert claims == {"data": body.decode(), "iss": lago.url}
    assert json.loads(body)["webhook_type"] == "customer.updated"


@pytest.mark.parametrize(
    ("answers", "state", "tries"),
    [
        ([200], "succeeded", 1),
        ([204], "succeeded", 1),
        ([500, 202], "succeeded", 2),
        ([0, 500, 201], "succeeded", 3),
        ([302, 400, 206], "failed", 3),
    ],
)
async def test_three_tries_then_silence(
    run: Run, receiver: Receiver, answers: list[int], state: str, tries: int
) -> None:
    """Only 200, 201, 202 and 204 are success; every try has the same unique key and body."""
    receiver.answers = list(answers)
    lago = await run(webhook_url=receiver.url, webhook_time_factor=0.001)
    delivery = lago.webhooks.send("alert.triggered", "triggered_alert", {"lago_id": "x"})
    assert delivery is not None
    await eventually(lambda: delivery.state != "pending")
    assert (delivery.state, delivery.statuses) == (state, answers)
    assert len(receiver.got) == tries
    assert len({(headers["x-lago-unique-key"], body) for headers, body in receiver.got}) == 1


async def test_a_webhook_can_be_sent_again(run: Run, receiver: Receiver) -> None:
    """An operator's retry has the same key, so it can be told from another webhook."""
    lago = await run(webhook_url=receiver.url)
    delivery = lago.webhooks.send("invoice.created", "invoice", {"lago_id": "x"})
    assert delivery is not None
    await eventually(lambda: delivery.state == "succeeded")
    lago.webhooks.redeliver(delivery)
    await eventually(lambda: len(receiver.got) == 2)
    assert receiver.got[0][0]["x-lago-unique-key"] == receiver.got[1][0]["x-lago-unique-key"]


async def test_event_errors_name_ids_only(run: Run, receiver: Receiver) -> None:
    """The hourly list of what was accepted and cannot be billed."""
    lago = await run(webhook_url=receiver.url)
    async with Client(lago) as client:
        await client.send_event(transaction_id="unknown", code="no such metric")
        await client.send_event(transaction_id="empty", properties={})
        await client.send_event(transaction_id="good")
        for _ in range(2):
            await client.post(f"{lago.url}/_sim/report_event_errors")
    await eventually(lambda: len(receiver.got) == 1)
    assert len(lago.webhooks.deliveries) == 1
    content = json.loads(receiver.got[0][1])
    assert (content["webhook_type"], content["object_type"]) == ("events.errors", "events_errors")
    assert content["events_errors"]["invalid_code"] == ["unknown"]
    assert content["events_errors"]["missing_aggregation_property"] == ["empty"]


async def test_without_an_address_nothing_is_sent(run: Run) -> None:
    """Webhooks are off by default, and can be switched on over HTTP."""
    lago = await run()
    async with Client(lago) as client:
        await client.delete("/subscriptions/sub_1")
        assert lago.webhooks.deliveries == []
        async with receive() as receiver:
            sim = f"{lago.url}/_sim/webhooks"
            body = {"webhook_type": "invoice.created", "object_type": "invoice", "object": {"number": "1"}}
            await client.post(sim, json={"url": receiver.url, "algorithm": "jwt", **body})
            await eventually(lambda: len(receiver.got) == 1)
            assert receiver.got[0][0]["x-lago-signature-algorithm"] == "jwt"
        await eventually(lambda: lago.webhooks.deliveries[0].state == "succeeded")
        assert (await client.get(sim)).json()["webhooks"][0]["statuses"] == [200]
        assert (await client.post(sim, json={"algorithm": "none"})).status_code == 422
