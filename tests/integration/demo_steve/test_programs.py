"""The two programs as processes of their own: start, first line, use, SIGTERM."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.integration.demo_steve.support import API, until

AUTH = ("operator", "secret")


@asynccontextmanager
async def program(module: str, *arguments: str) -> AsyncIterator[tuple[dict[str, str], asyncio.subprocess.Process]]:
    """A running program and the JSON of its first line; it must end well on SIGTERM."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            first = json.loads(await process.stdout.readline())
        yield first, process
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def steve(state: Path, *more: str) -> Any:  # noqa: ANN401 - a context manager
    return program("deploy.demo.steve", "--user", AUTH[0], "--password", AUTH[1], "--state", str(state), *more)


async def test_a_demo_from_outside(tmp_path: Path) -> None:
    """Seeded SteVe, connected fleet, a tap over the remote control, a full car, a restart that forgets nothing."""
    seed, fleet = tmp_path / "seed.json", tmp_path / "fleet.json"
    charger = {"charge_box_id": "CP-1", "password": "p"}
    seed.write_text(json.dumps({"tags": [{"id_tag": "CARD"}], "chargers": [charger]}))
    fleet.write_text(json.dumps({"chargers": [charger]}))
    state = tmp_path / "steve.sqlite"
    async with httpx.AsyncClient(auth=AUTH, trust_env=False) as client:
        async with (
            steve(state, "--seed", str(seed)) as (urls, _),
            program(
                "deploy.demo.chargers",
                *("--ocpp-url", urls["ocpp"], "--fleet", str(fleet), "--json"),
                *("--factor", "7200", "--sample-s", "0.1", "--spread-s", "0"),
            ) as (control, fleet_process),
        ):
            remote = control["control"]

            async def charger_state() -> dict[str, Any]:
                found: dict[str, Any] = (await client.get(f"{remote}/state")).json()["chargers"][0]
                return found

            async def is_online() -> bool:
                return bool((await charger_state())["registration"])

            async def is_free_again() -> bool:
                return (await charger_state())["connectors"][0]["session"] is None

            await until(is_online, what="the boot", deadline_s=10)
            tap = {"charge_box_id": "CP-1", "connector_id": 1, "id_tag": "CARD", "energy_wh": 12_400}
            told = (await client.post(f"{remote}/tap", json=tap)).json()
            assert (told["authorize"], told["start"], told["charging"]) == ("Accepted", "Accepted", True)
            await until(is_free_again, what="the full car", deadline_s=10)
            unknown = await client.post(f"{remote}/tap", json=tap | {"charge_box_id": "CP-9"})
            idle = await client.post(f"{remote}/stop", json={"charge_box_id": "CP-1", "connector_id": 1})
            assert (unknown.status_code, idle.status_code) == (404, 409)
            assert (await client.post(f"{remote}/tap", content=b"{")).status_code == 400
            assert fleet_process.stdout is not None
            line = json.loads(await fleet_process.stdout.readline())
            assert {"at", "what", "charge_box_id"} <= set(line)
        async with steve(state) as (urls, _):
            transactions = (await client.get(f"{urls['rest']}{API}/transactions")).json()
    assert [(one["startValue"], one["stopValue"]) for one in transactions] == [("1000", "13400")]


async def test_faults_from_the_command_line(tmp_path: Path) -> None:
    """--fault switches a fault on from the start."""
    async with (
        steve(tmp_path / "s.sqlite", "--fault", "5xx=503;times=1") as (urls, _),
        httpx.AsyncClient(auth=AUTH, trust_env=False) as client,
    ):
        statuses = [(await client.get(f"{urls['rest']}{API}/ocppTags")).status_code for _ in range(2)]
    assert statuses == [503, 200]


async def test_nonsense_is_refused_with_a_reason() -> None:
    """A fault that does not exist ends the program with a usage error that names it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.demo.steve", "--fault", "meteor", stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await process.communicate()
    assert process.returncode == 2
    assert "meteor" in stderr.decode()
