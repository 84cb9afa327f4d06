"""Asks each service whether it is ready."""

import asyncio
import json
from typing import Final

import httpx

from deploy.local.doctor.result import Result
from deploy.local.doctor.services import rules
from deploy.local.doctor.services.rules import Found
from deploy.local.doctor.target import Target, running_in
from deploy.local.environment import reached_at
from deploy.local.home import SERVICES, Home
from shared.web.client import http_client

TIMEOUT_S: Final = 4.0


async def check(target: Target) -> list[Result]:
    others = {} if target.home.kind == "demo" else await asyncio.to_thread(_demo_ports)
    found = await asyncio.gather(*(ask(target, service, others) for service in SERVICES))
    return [rules.judge(service, one) for service, one in zip(SERVICES, found, strict=True)]


async def ask(target: Target, service: str, others: dict[str, str]) -> Found:
    """`others`: the services of another installation on this machine, by their private port."""
    environment = target.running.get(service, {})
    port = environment.get(f"EXPRESSYNC_{service.upper()}_OPS_PORT") or target.setting(service, "ops_port")
    host = environment.get(f"EXPRESSYNC_{service.upper()}_OPS_HOST") or target.setting(service, "ops_host")
    address = f"http://{reached_at(host)}:{port}/readyz"
    ours = service in target.running
    launcher = target.launcher_pid is not None
    log = str(target.home.logs / f"{service}.log")
    if not ours and port in others:
        return Found(launcher, ours, address, target.up, log, other=others[port])
    try:
        async with http_client("", timeout_s=TIMEOUT_S) as client:
            checks, notes = read(await client.get(address))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        problem = "it took too long" if isinstance(error, httpx.TimeoutException) else type(error).__name__
        return Found(launcher, ours, address, target.up, log, problem=problem)
    return Found(launcher, ours, address, target.up, log, checks=checks, notes=notes)


def read(answer: httpx.Response) -> tuple[dict[str, str], dict[str, str]]:
    """The checks and the notes of /readyz. :raises ValueError: this is not one of our services."""
    body = json.loads(answer.content)
    parts = [body.get("checks"), body.get("notes", {})] if isinstance(body, dict) else []
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise ValueError("not one of our services")
    checks, notes = ({str(name): str(why) for name, why in part.items()} for part in parts)
    return checks, notes


def _demo_ports() -> dict[str, str]:
    demo = running_in(Target(Home.of("demo"), None, {}))
    return {
        port: "demo"
        for service, environment in demo.running.items()
        if (port := environment.get(f"EXPRESSYNC_{service.upper()}_OPS_PORT"))
    }
