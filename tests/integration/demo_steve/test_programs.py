"""The two programs as processes of their own: start, first line, use, SIGTERM."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.commands import Command, command
from tests.integration.demo_steve.support import API, until
from tests.nursery import ROOT

AUTH = ("operator", "secret")


@asynccontextmanager
async def program(module: str, *arguments: str) -> AsyncIterator[tuple[dict[str, str], Command]]:
    """A running program and the JSON of its first line; it must end well on SIGTERM."""
    process = await command(module, *arguments, env=os.environ, cwd=ROOT)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            first = json.loads(await process.stdout.readline())
        yield first, process
    except BaseException:
        process.send_signal(signal.SIGKILL)
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            await process.communicate()
    assert process.returncode == 0


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


async def test_a_charger_breaks_from_the_command_line(tmp_path: Path) -> None:
    """--fault and the remote control switch a charger's faults on and off."""
    seed, fleet = tmp_path / "seed.json", tmp_path / "fleet.json"
    seed.write_text(json.dumps({"tags": [{"id_tag": "CARD"}], "chargers": [{"charge_box_id": "CP-1"}]}))
    fleet.write_text(json.dumps({"chargers": [{"charge_box_id": "CP-1"}]}))
    async with (
        steve(tmp_path / "s.sqlite", "--seed", str(seed)) as (urls, _),
        program(
            "deploy.demo.chargers",
            *("--ocpp-url", urls["ocpp"], "--fleet", str(fleet), "--spread-s", "0", "--fault", "meter_goes_back=400"),
        ) as (control, _),
        httpx.AsyncClient(base_url=control["control"], trust_env=False) as remote,
    ):

        async def meter_of(connector_id: int) -> int:
            tap = {"charge_box_id": "CP-1", "connector_id": connector_id, "id_tag": "CARD", "power_w": 0}
            assert (await remote.post("/tap", json=tap)).json()["charging"]
            (charger,) = (await remote.get("/state")).json()["chargers"]
            await remote.post("/stop", json={"charge_box_id": "CP-1", "connector_id": connector_id})
            return int(charger["connectors"][connector_id - 1]["meter_wh"])

        async def is_online() -> bool:
            return bool((await remote.get("/state")).json()["chargers"][0]["registration"])

        await until(is_online, what="the boot", deadline_s=10)
        assert await meter_of(1) == 600
        assert (await remote.post("/faults", json=[{"name": "meteor", "value": 1}])).status_code == 400
        assert (await remote.post("/faults", json=[])).status_code == 200
        assert await meter_of(2) == 1000


@pytest.mark.parametrize("program_of", ["steve", "chargers"])
async def test_nonsense_is_refused_with_a_reason(program_of: str, tmp_path: Path) -> None:
    """A fault that does not exist ends the program with a usage error that names it."""
    fleet = tmp_path / "fleet.json"
    fleet.write_text(json.dumps({"chargers": []}))
    needed = ("--ocpp-url", "ws://127.0.0.1:1", "--fleet", str(fleet)) if program_of == "chargers" else ()
    process = await command(f"deploy.demo.{program_of}", *needed, "--fault", "meteor", env=os.environ, cwd=tmp_path)
    _, stderr = await process.communicate()
    assert process.returncode == 2
    assert "meteor" in stderr.decode()
