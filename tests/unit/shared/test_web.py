import asyncio
import base64
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from prometheus_client import CollectorRegistry
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from shared.bus.requests import NoAnswerError
from shared.contracts.problem import NotFound, Problem
from shared.runtime.clock import utc_now
from shared.web.body import read_body
from shared.web.health import answers, connected, ops_app
from shared.web.problems import MEDIA_TYPE, on_crash, on_no_answer, on_problem
from shared.web.server import HttpServer, PortTakenError, bind
from shared.web.signatures import hex_hmac, verify_hex_hmac, verify_standard_webhook

KEYS = (b"new-key-0123456789abcdef", b"old-key-0123456789abcdef")


def test_either_of_two_keys_is_accepted_and_no_third() -> None:
    """During a rotation both keys are good; a wrong one, a shorter one and none are not."""
    body = b'{"idTag":"x"}'
    for key in KEYS:
        assert verify_hex_hmac(KEYS, body, hex_hmac(key, body))
    for bad in (hex_hmac(b"third", body), hex_hmac(KEYS[0], body)[:-1], "", "é", hex_hmac(KEYS[0], body + b" ")):
        assert not verify_hex_hmac(KEYS, body, bad)


def test_the_known_signature_of_the_hook() -> None:
    """RFC 4231, test case 2: HMAC-SHA256 in lowercase hex."""
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert hex_hmac(b"Jefe", b"what do ya want for nothing?") == expected


def test_standard_webhooks_headers_are_verified() -> None:
    """A message signed by the standard's own library passes with any valid key, and fails when anything was touched."""
    body, now = '{"idTag":"x"}', utc_now()
    signer = Webhook(base64.b64encode(KEYS[1]).decode())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signer.sign("msg_1", now, body),
    }
    assert verify_standard_webhook(KEYS, body.encode(), headers)
    assert not verify_standard_webhook(KEYS[:1], body.encode(), headers)
    assert not verify_standard_webhook(KEYS, body.encode() + b" ", headers)
    assert not verify_standard_webhook(KEYS, body.encode(), headers | {"webhook-id": "msg_2"})
    assert not verify_standard_webhook(KEYS, body.encode(), {})
    assert not verify_standard_webhook(KEYS, b"\xff", headers)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async def echo(request: Request) -> Response:
        return PlainTextResponse(await read_body(request, 10))

    async def problem(_: Request) -> Response:
        raise NotFound("No card X is known. Check the spelling.")

    async def silence(_: Request) -> Response:
        raise NoAnswerError("get_card", "sync", "no reply within 5 s")

    async def crash(_: Request) -> Response:
        raise RuntimeError("s3cret")

    app = Starlette(
        routes=[
            Route("/echo", echo, methods=["POST"]),
            Route("/problem", problem),
            Route("/silence", silence),
            Route("/crash", crash),
        ],
        exception_handlers={Problem: on_problem, NoAnswerError: on_no_answer, Exception: on_crash},
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_beyond_the_limit_is_refused(client: httpx.AsyncClient, *, declared: bool) -> None:
    """Too large is 413, by the declared length or as soon as that much came in; the limit itself is fine."""

    async def chunks(size: int) -> AsyncIterator[bytes]:
        for _ in range(size):
            yield b"x"

    fits = await client.post("/echo", content=b"x" * 10 if declared else chunks(10))
    assert fits.status_code == 200
    answer = await client.post("/echo", content=b"x" * 11 if declared else chunks(11))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json()["code"] == "body_too_large"


@pytest.mark.parametrize(
    ("path", "status", "code", "says"),
    [
        ("/problem", 404, "not_found", "Check the spelling"),
        ("/silence", 504, "unknown", "sync did not answer get_card"),
        ("/crash", 500, "internal", "in the log"),
    ],
)
async def test_every_failure_is_a_problem_in_words(
    client: httpx.AsyncClient, path: str, status: int, code: str, says: str
) -> None:
    """RFC 9457 with a code for programs and a sentence for people; a crash shows nothing of its inside."""
    answer = await client.get(path)
    assert answer.status_code == status
    body = answer.json()
    assert body["code"] == code
    assert body["type"] == f"urn:expressync:problem:{code}"
    assert says in body["detail"]
    assert "s3cret" not in answer.text


async def test_readiness_tells_the_truth() -> None:
    """Ready is 200; whatever is missing is 503, named, also when it hangs. Being alive is another question."""
    state = {"broker": True}

    async def hang() -> None:
        await asyncio.Event().wait()

    async def fine() -> None:
        return

    registry = CollectorRegistry()
    checks = {"broker": connected("the broker", lambda: state["broker"]), "database": answers("the database", fine)}
    notes = {"room": connected("a room that is large enough", lambda: False)}
    transport = httpx.ASGITransport(ops_app(checks, registry, notes))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "ready")
        # Told, and no reason to take the service out of use.
        assert answer.json()["notes"] == {"room": "a room that is large enough is not connected"}
        assert answer.json()["checks"] == {"broker": "ok", "database": "ok"}
        del notes["room"]
        state["broker"] = False
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["checks"] == {"broker": "the broker is not connected", "database": "ok"}
        assert answer.json()["notes"] == {}
        checks["database"] = answers("the database", hang)
        answer = await client.get("/readyz")
        assert answer.json()["checks"]["database"] == "the database does not answer: TimeoutError"
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200


def test_a_taken_port_is_told_with_the_setting() -> None:
    """Two services on one port: the second says which port, and which setting moves it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"{port}.*EXPRESSYNC_TOY_PORT"):
            bind("127.0.0.1", port, setting="EXPRESSYNC_TOY_PORT")


def serve(app: Starlette) -> tuple[httpx.AsyncClient, Callable[[], Awaitable[float]]]:
    """A client of a running server, and what stops that: the seconds that it took."""
    server, stop = HttpServer("http", app, bind("127.0.0.1", 0, setting="none")), asyncio.Event()
    running = asyncio.create_task(server.run(stop))

    async def ended() -> float:
        at = time.monotonic()
        stop.set()
        await running
        return time.monotonic() - at

    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False), ended


async def test_a_server_that_is_told_to_stop_ends_at_once() -> None:
    """Connections that are kept for the next call hold nothing up, and nobody gets another answer."""

    async def answer(_: Request) -> Response:
        return PlainTextResponse("here")

    took = []
    for _ in range(5):
        client, ended = serve(Starlette(routes=[Route("/", answer)]))
        async with client:
            assert (await client.get("/")).text == "here"
            took.append(await ended())
            with pytest.raises(httpx.ConnectError):
                await client.get("/")
    # A busy machine may be slow, and not five times in a row.
    assert min(took) < 0.05


@pytest.mark.parametrize(("takes_s", "status"), [(0.2, 200), (60, 500)])
async def test_a_stop_waits_for_an_answer_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, takes_s: float, status: int
) -> None:
    """Whoever asked before gets the answer; one that takes too long is given up."""
    monkeypatch.setattr("shared.web.server.ANSWERS_WITHIN_S", 0.5 if takes_s > 1 else 5)
    asked = asyncio.Event()

    async def answer(_: Request) -> Response:
        asked.set()
        await asyncio.sleep(takes_s)
        return PlainTextResponse("here")

    client, ended = serve(Starlette(routes=[Route("/", answer)]))
    async with client:
        answering = asyncio.create_task(client.get("/"))
        await asked.wait()
        took = await ended()
        assert (await answering).status_code == status
    assert took < 5
