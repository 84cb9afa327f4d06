import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from deploy.demo.lago.settings import LagoSettings
from tests.commands import command
from tests.nursery import ROOT

from .conftest import SEED, Client, Run, event

KEY = LagoSettings().api_key


@asynccontextmanager
async def program(*arguments: str, stop: signal.Signals = signal.SIGTERM) -> AsyncIterator[httpx.AsyncClient]:
    process = await command("deploy.demo.lago", *arguments, env=os.environ, cwd=ROOT)
    assert process.stdout is not None
    try:
        url = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))["url"]
        async with httpx.AsyncClient(base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {KEY}"}) as client:
            yield client
    except BaseException:
        process.send_signal(signal.SIGKILL)
        raise
    finally:
        process.send_signal(stop)
        async with asyncio.timeout(10):
            await process.communicate()
    assert process.returncode == (0 if stop == signal.SIGTERM else -stop)


async def test_the_state_survives_a_restart_and_a_kill(tmp_path: Path) -> None:
    """Events, subscriptions, the organisation and the signing key are what they were; the seed is sown once."""
    (tmp_path / "seed.json").write_text(json.dumps(SEED))
    arguments = ("--seed", str(tmp_path / "seed.json"), "--state", str(tmp_path / "lago.sqlite"))
    async with program(*arguments, stop=signal.SIGKILL) as client:
        batch = {"events": [event("a", "2"), event("b", "3")]}
        assert (await client.post("/events/batch", json=batch)).status_code == 200
        organization = (await client.get("/organizations")).json()
        key = (await client.get("/webhooks/json_public_key")).json()
        await client.delete("/subscriptions/sub_now")
    async with program(*arguments) as client:
        duplicate = await client.post("/events", json={"event": event("a")})
        assert duplicate.json()["error_details"] == {"transaction_id": ["value_already_exist"]}
        usage = await client.get("/customers/cus_1/current_usage", params={"external_subscription_id": "sub_1"})
        assert usage.json()["customer_usage"]["charges_usage"][0]["units"] == "5.0"
        assert (await client.get("/subscriptions/sub_now")).status_code == 404
        assert (await client.get("/customers")).json()["meta"]["total_count"] == 3
        assert (await client.get("/organizations")).json() == organization
        assert (await client.get("/webhooks/json_public_key")).json() == key


async def test_faults_and_the_store_are_given_at_the_start() -> None:
    """Several faults, each with its path and count."""
    arguments = ("--store", "clickhouse", "--fault", "http_503=1,path=/api/v1/plans,count=1", "--fault", "slow=1")
    async with program(*arguments) as client:
        assert [(await client.get("/plans")).status_code for _ in range(2)] == [503, 200]
        assert (await client.get("/organizations")).json()["organization"]["events_store"] == "clickhouse"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--fault", "explode=1"], "explode"),
        (["--seed", "bad.json"], "typo"),
        (["--seed", "list.json"], "JSON object"),
    ],
)
async def test_a_wrong_argument_is_named(tmp_path: Path, arguments: list[str], word: str) -> None:
    """The program ends with 2 and a sentence; it never runs with something left out."""
    (tmp_path / "bad.json").write_text('{"typo": []}')
    (tmp_path / "list.json").write_text("[]")
    paths = [str(tmp_path / one) if one.endswith(".json") else one for one in arguments]
    process = await command("deploy.demo.lago", *paths, env=os.environ, cwd=ROOT)
    _, error = await process.communicate()
    assert process.returncode == 2
    assert word in error.decode()
    assert "Traceback" not in error.decode()


async def test_clickhouse_keeps_its_events_too(run: Run, tmp_path: Path) -> None:
    """What was replaced stays replaced after a restart."""
    path = tmp_path / "lago.sqlite"
    first = await run(state_file=path, events_store="clickhouse")
    async with Client(first) as client:
        await client.send_event(transaction_id="a", kwh="1", timestamp="1777627800")
        await client.send_event(transaction_id="a", kwh="2", timestamp="1777627800")
    second = await run(state_file=path, events_store="clickhouse")
    assert [one.properties["kwh"] for one in second.state.events] == ["2"]
