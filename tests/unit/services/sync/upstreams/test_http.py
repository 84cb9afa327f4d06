"""What an upstream's misbehaviour is called."""

import asyncio
import traceback
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import TypeAdapter

from services.sync.upstreams.breaker import Breaker
from services.sync.upstreams.errors import MisconfiguredError, UnavailableError, UpstreamError
from services.sync.upstreams.http import Caller


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("/steve/manager/signin;jsessionid=s3cret?next=s3cret#s3cret", "redirects to /steve/manager/signin instead"),
        ("https://s3cret:s3cret@sso.example/login?state=s3cret", "redirects to https://sso.example/login instead"),
    ],
)
async def test_where_a_redirect_leads_is_told_without_its_secrets(location: str, shown: str) -> None:
    """A login puts tokens behind its address; the explanation goes into events and logs."""
    transport = httpx.MockTransport(lambda _: httpx.Response(302, headers={"Location": location}))
    client = httpx.AsyncClient(base_url="http://steve", transport=transport)
    caller = Caller("steve", client, Breaker(lambda: 0.0), lambda *_: None)
    with pytest.raises(MisconfiguredError) as caught:
        await caller.call("GET", "/x", TypeAdapter(list[int]))
    assert shown in caught.value.explanation
    assert "s3cret" not in str(caught.value)
    await caller.close()


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (httpx.LocalProtocolError("Illegal header value b'Bearer s3cret\\n'"), "Illegal header value)"),
        (httpx.RemoteProtocolError("illegal header line: bytearray(b'Set Cookie: s3cret')"), "illegal header line)"),
        (httpx.RemoteProtocolError("Server disconnected without sending a response."), "sending a response.)"),
    ],
)
async def test_what_is_no_http_is_not_quoted(error: httpx.RequestError, shown: str) -> None:
    """The library says of a header that is none what stands in it; that would go into events and logs."""

    def refuse(_: httpx.Request) -> httpx.Response:
        raise error

    client = httpx.AsyncClient(base_url="http://lago", transport=httpx.MockTransport(refuse))
    caller = Caller("lago", client, Breaker(lambda: 0.0), lambda *_: None)
    with pytest.raises(UnavailableError) as caught:
        await caller.call("GET", "/x", TypeAdapter(list[int]))
    assert caught.value.explanation.endswith(shown)
    assert "s3cret" not in str(caught.value)
    await caller.close()


async def test_an_answer_of_an_unexpected_form_is_not_repeated() -> None:
    """Neither the error nor its trace has what came: it may be a portal's address, which signs whoever has it in."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"url": ["https://portal/s3cret"]}))
    client = httpx.AsyncClient(base_url="http://lago", transport=transport)
    caller = Caller("lago", client, Breaker(lambda: 0.0), lambda *_: None)
    with pytest.raises(MisconfiguredError) as caught:
        await caller.call("GET", "/x", TypeAdapter(dict[str, str]))
    told = "".join(traceback.format_exception(caught.value))
    assert "unexpected form (url:" in told
    assert "s3cret" not in told
    await caller.close()


class _NoGzip(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'{"done": true}'


async def test_an_answer_that_cannot_be_decoded_is_a_fault_that_has_a_name() -> None:
    """It says that it is gzip and is none: whoever watches is told, the breaker counts it, and a write may be done."""
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=_NoGzip()))
    told: list[UpstreamError | None] = []
    breaker = Breaker(lambda: 0.0)
    client = httpx.AsyncClient(base_url="http://steve", transport=transport)
    caller = Caller("steve", client, breaker, lambda _, error: told.append(error))
    with pytest.raises(MisconfiguredError) as written:
        await caller.call("POST", "/x", TypeAdapter(dict[str, bool]), body=b"{}")
    with pytest.raises(MisconfiguredError) as begun:
        await caller.first_bytes("/x", 10, timeout_s=1.0)
    assert written.value.may_have_been_done
    assert told == [written.value, begun.value]
    assert breaker.failures == 2
    await caller.close()


@pytest.mark.parametrize("status", [400, 403, 404, 500])
async def test_an_upstream_that_quotes_a_secret_is_not_quoted(status: int) -> None:
    """What was sent holds a secret: neither whoever asked nor whoever watches gets the upstream's words for it."""
    answer = {"status": status, "message": "the value 's3cret' is too short", "error": "s3cret"}
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=answer))
    told: list[UpstreamError | None] = []
    client = httpx.AsyncClient(base_url="http://steve", transport=transport)
    caller = Caller(
        "steve", client, Breaker(lambda: 0.0), lambda _, error: told.append(error), is_its_own=lambda *_: False
    )
    with pytest.raises(UpstreamError) as caught:
        await caller.call("POST", "/x", TypeAdapter(dict[str, bool]), body=b"{}", quoting=False)
    assert str(status) in caught.value.explanation
    assert "s3cret" not in f"{caught.value} {caught.value.explanation} {told}"
    await caller.close()


@pytest.mark.parametrize("status", [200, 422])
@pytest.mark.parametrize("urgent", [False, True])
async def test_a_rate_limit_is_kept_to_whatever_is_answered_meanwhile(status: int, urgent: bool) -> None:  # noqa: FBT001
    """A call that was under way, or that somebody waits for, says nothing of the limit that another one met."""
    answered = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/limited":
            return httpx.Response(429, headers={"X-RateLimit-Reset": "30"})
        if request.url.path == "/slow":
            await answered.wait()
        return httpx.Response(status, json=[])

    now = [0.0]
    client = httpx.AsyncClient(base_url="http://lago", transport=httpx.MockTransport(answer))
    caller = Caller("lago", client, Breaker(lambda: now[0]), lambda *_: None)

    async def ask(path: str, *, urgent: bool = False) -> str:
        try:
            await caller.call("GET", path, TypeAdapter(list[int]), urgent=urgent)
        except UpstreamError as error:
            return error.reason
        return "ok"

    well = "ok" if status == 200 else "refused"
    under_way = asyncio.create_task(ask("/slow"))
    await asyncio.sleep(0)
    assert await ask("/limited") == "rate_limited"
    if urgent:
        assert await ask("/x", urgent=True) == well
    answered.set()
    assert await under_way == well
    assert [await ask("/x"), await ask("/x")] == ["not_asked", "not_asked"]
    now[0] = 30.0
    assert await ask("/x") == well
    await caller.close()
