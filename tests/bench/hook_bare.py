"""The bare endpoint: Starlette in the same server, loop and garbage collector; it verifies, parses and answers.

`python -m tests.bench.hook_bare` prints its port and serves until it is ended.
"""

import asyncio
import gc
import signal

import msgspec
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.preauth.decision.http import NO_OVERRIDE, PATH, Call
from shared.web.server import HttpServer, bind
from shared.web.signatures import verify_hex_hmac
from tests.bench.hook_load import KEY

_decoder = msgspec.json.Decoder(Call)


async def answer(request: Request) -> Response:
    body = await request.body()
    if not verify_hex_hmac([KEY], body, request.headers.get("x-signature", "")):
        return Response(status_code=401)
    _decoder.decode(body)
    return Response(NO_OVERRIDE, media_type="application/json")


async def serve() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    app = Starlette(routes=[Route(PATH, answer, methods=["POST"])])
    server = HttpServer("bare", app, bind("127.0.0.1", 0, setting="PORT"))
    print(server.port, flush=True)
    gc.collect()
    gc.freeze()
    await server.run(stop)


if __name__ == "__main__":
    uvloop.run(serve())
