"""What an upstream's misbehaviour is called."""

import httpx
import pytest
from pydantic import TypeAdapter

from services.sync.upstreams.breaker import Breaker
from services.sync.upstreams.errors import MisconfiguredError
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
