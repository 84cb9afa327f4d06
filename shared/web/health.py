"""The private port: whether the process is alive, whether it has what it needs, what it has counted."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CHECK_TIMEOUT_S: Final = 2.0

Check = Callable[[], Awaitable[str | None]]
"""Returns None when all is well, else a sentence that says what is missing."""


def connected(what: str, state: Callable[[], bool]) -> Check:
    """A check on something that knows whether it is connected."""

    async def check() -> str | None:
        return None if state() else f"{what} is not connected"

    return check


def answers(what: str, probe: Callable[[], Awaitable[object]]) -> Check:
    """A check that asks, and is content with any answer in time."""

    async def check() -> str | None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await probe()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            return f"{what} does not answer: {type(error).__name__}"
        return None

    return check


async def _found(checks: Mapping[str, Check]) -> dict[str, str | None]:
    results = await asyncio.gather(*(check() for check in checks.values()))
    return dict(zip(checks, results, strict=True))


def ops_app(
    checks: Mapping[str, Check], registry: CollectorRegistry, notes: Mapping[str, Check] | None = None
) -> Starlette:
    """`/healthz` (the process), `/readyz` (what it needs; 503 with the reasons) and `/metrics`.

    What `notes` find should be seen to, and the service does its work all the same: it stands beside the checks.
    """
    noted = notes or {}

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        found, worth_a_look = await _found(checks), await _found(noted)
        ready = not any(found.values())
        return JSONResponse(
            {
                "status": "ready" if ready else "not ready",
                "checks": {name: why or "ok" for name, why in found.items()},
                "notes": {name: why for name, why in worth_a_look.items() if why},
            },
            status_code=200 if ready else 503,
        )

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)],
    )
