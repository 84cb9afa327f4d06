"""The bare endpoint: the same server, loop, garbage collector and endpoint, with a decider that decides nothing.

`python -m tests.bench.hook_bare` prints its port and serves until it is ended.
"""

import asyncio
import gc
import signal
from datetime import datetime
from uuid import UUID

import uvloop
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from services.preauth.decision.http import Hook
from services.preauth.decision.rules import Reason
from services.preauth.decision.tap import Decision, Tap
from services.preauth.main import Front
from shared.contracts.events.preauth import Told
from shared.runtime.clock import utc_now
from shared.web.server import HttpServer, bind
from tests.bench.hook_load import KEY

NOBODY = UUID(int=0)


class PassAll:
    """Answers at once, and keeps nothing."""

    async def decide(self, tap: Tap) -> Decision:
        return Decision(tap, NOBODY, utc_now(), block=False, reason=Reason.NOTHING_ARMED)

    def may_block(self, decision: Decision) -> bool:
        return decision.block

    def told(self, decision: Decision, told: Told, at: datetime | None = None) -> None: ...


async def serve() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    front = Front(Hook(PassAll(), [KEY], registry=CollectorRegistry()), Starlette())
    server = HttpServer("bare", front, bind("127.0.0.1", 0, setting="PORT"))
    print(server.port, flush=True)
    gc.collect()
    gc.freeze()
    await server.run(stop)


if __name__ == "__main__":
    uvloop.run(serve())
