import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from deploy.demo.chargers.charger import Charger
from deploy.demo.chargers.settings import ChargerSettings
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.simulator import SteveSimulator

QUICK = SteveSettings(auth_delay_ms=0)
API = "/steve/api/v1"


async def until(condition: Callable[[], bool | Awaitable[bool]], *, deadline_s: float = 5, what: str = "it") -> None:
    """Poll until the condition holds; fail by name when the deadline passes."""
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                outcome = condition()
                if outcome if isinstance(outcome, bool) else await outcome:
                    return
                await asyncio.sleep(0.01)
    except TimeoutError as error:
        raise AssertionError(f"{what} did not happen within {deadline_s} s") from error


def rest_client(steve: SteveSimulator) -> httpx.AsyncClient:
    settings = steve.settings
    return httpx.AsyncClient(base_url=steve.rest_url + API, auth=(settings.user, settings.password), trust_env=False)


def settings_of(steve: SteveSimulator, charge_box_id: str = "CP-1") -> ChargerSettings:
    """Change them with `dataclasses.replace`."""
    return ChargerSettings(
        ocpp_url=steve.ocpp_url, charge_box_id=charge_box_id, reconnect_min_s=0.02, answer_timeout_s=5
    )


def charger(steve: SteveSimulator, charge_box_id: str = "CP-1") -> Charger:
    return Charger(settings_of(steve, charge_box_id))


def raw_socket(
    steve: SteveSimulator,
    path: str = "CP-1",
    *,
    subprotocols: tuple[str, ...] = ("ocpp1.6",),
    headers: dict[str, str] | None = None,
) -> connect:
    """A WebSocket of which the test sees every frame."""
    return connect(
        f"{steve.ocpp_url}/{path}",
        subprotocols=[Subprotocol(one) for one in subprotocols] or None,
        additional_headers=headers or {},
        proxy=None,
    )


async def exchange(socket: ClientConnection, *frame: object) -> list[Any]:
    """Send a frame and read the next one, within five seconds."""
    async with asyncio.timeout(5):
        await socket.send(json.dumps(frame))
        answer: list[Any] = json.loads(await socket.recv())
    return answer
