"""Bytes, JSON and forms that no driver and no SteVe sends on purpose: refused, never a crash."""

import asyncio
import json
import string
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.web.signatures import hex_hmac
from tests.databases import TestDatabase
from tests.integration.services.preauth.driving import CP, arm, kiosk_of
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import KEY, Preauth, running

EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

# Every printable latin-1 character may stand in a header, and a blank neither first nor last.
header_text = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40).map(
    str.strip
)
text = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=60),
    st.sampled_from(["\x00", "²", "é" * 43, "v" * 43, "1" * 5000, "../", CP, "\ud800", "%00", "{}", "' OR 1=1"]),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text)
any_json = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4))


def shaped(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with the right names and any values, or some names too many."""
    known = st.fixed_dictionaries({}, optional=dict.fromkeys(names, any_json))
    return st.builds(lambda one, more: {**more, **one}, known, st.dictionaries(text, scalars, max_size=1))


def encoded(value: Any) -> bytes:  # noqa: ANN401 - JSON
    return json.dumps(value).encode("utf-8", "surrogatepass")


hook_calls = st.one_of(
    st.binary(max_size=300),
    any_json.map(encoded),
    shaped("idTag", "chargeBoxId", "connectorId", "isStartTx", "ts").map(encoded),
    st.fixed_dictionaries(
        {
            "idTag": text,
            "chargeBoxId": text,
            "connectorId": st.none() | st.integers(),
            "isStartTx": st.booleans(),
            "ts": st.integers(),
        }
    ).map(encoded),
)
clients = shaped("client_id", "redirect_uri", "code_challenge", "state")
bodies = st.one_of(
    st.binary(max_size=300),
    any_json.map(encoded),
    shaped("charge_box_id", "connector_id", "key").map(encoded),
    st.fixed_dictionaries({"charge_box_id": text, "key": text}).map(encoded),
    st.fixed_dictionaries({"pin": text, "client": clients}).map(encoded),
)
form_names = ["charger", "key", "scan", "do", "pin", "code", "client_id", "redirect_uri", "code_verifier", "grant_type"]
form_pairs = st.tuples(st.sampled_from([*form_names, ""]), text)


def form(pairs: list[tuple[str, str]]) -> bytes:
    return str(httpx.QueryParams([(name, value.encode("utf-8", "replace").decode()) for name, value in pairs])).encode()


forms = st.one_of(
    st.binary(max_size=300),
    st.text(alphabet=string.printable, max_size=200).map(str.encode),
    st.lists(form_pairs, max_size=30).map(form),
    st.lists(form_pairs, max_size=5).map(
        lambda pairs: form([("grant_type", "authorization_code"), ("do", "complete"), *pairs])
    ),
)
content_types = st.sampled_from(
    [
        "application/json",
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=utf-7",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "",
    ]
)


@pytest.fixture
async def preauth(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    async with running(database, tmp_path, cooldown_s=0, scans_per_charger=1_000_000) as one:
        yield one


def hold(answer: httpx.Response) -> None:
    """What must be true of every answer. A page that nobody is there to show (503) is no crash: none is away here."""
    assert answer.status_code < 500, (answer.request.method, answer.request.url, answer.text)


async def test_no_call_crashes_the_hook(preauth: Preauth) -> None:
    """Whatever is signed and sent: an override, or a refusal with a code."""

    @EXAMPLES
    @given(body=hook_calls, message_id=header_text, stamp=header_text, signed=st.booleans())
    def fuzz(body: bytes, message_id: str, stamp: str, signed: bool) -> None:  # noqa: FBT001 - drawn
        headers = {
            b"webhook-id": message_id.encode("latin-1"),
            b"webhook-timestamp": stamp.encode("latin-1"),
            b"webhook-signature": f"v1,{stamp}".encode("latin-1"),
        }
        if signed:
            headers = {b"X-Signature": hex_hmac(KEY.encode(), body).encode()}
        answer = client.post("/api/ocpp/pre-authorize", content=body, headers=headers)
        hold(answer)
        assert answer.json().keys() in ({"override"}, {"error"})

    with httpx.Client(base_url=preauth.http.base_url, trust_env=False, timeout=20) as client:
        await asyncio.to_thread(fuzz)
    assert await preauth.tap("04A1", CP) is None


async def test_no_request_crashes_the_drivers_pages(preauth: Preauth, sync: SyncDouble) -> None:
    """Any body, form, cookie, address and Last-Event-ID at any of their routes, by a kiosk with a scan of its own."""
    sync.silent = True
    await kiosk_of(preauth, preauth.http)
    pairing_id = (await arm(preauth.http)).json()["pairing_id"]
    place = f"/api/pairings/{pairing_id}"
    assert (await preauth.http.delete(place)).status_code == 204
    pages = ["/scan", "/kiosk", "/me/sign-out", "/me/bindings", "/me/bindings/forget", "/bind"]
    posts = st.sampled_from(["/api/pairings", f"{place}/login", "/api/token", f"/api/pairings/{uuid4()}", *pages])
    gets = st.sampled_from(
        [place, f"{place}/events", "/scan", "/kiosk", "/me", "/bind", "/.well-known/jwks.json", "/nowhere"]
    )

    @EXAMPLES
    @given(path=posts, body=bodies | forms, kind=content_types)
    def post(path: str, body: bytes, kind: str) -> None:
        hold(client.post(path, content=body, headers={"Content-Type": kind}))

    @EXAMPLES
    @given(path=posts, pairs=forms)
    def post_form(path: str, pairs: bytes) -> None:
        hold(client.post(path, content=pairs, headers={"Content-Type": "application/x-www-form-urlencoded"}))

    @EXAMPLES
    @given(path=posts, body=bodies)
    def post_json(path: str, body: bytes) -> None:
        hold(client.post(path, content=body, headers={"Content-Type": "application/json"}))

    @EXAMPLES
    @given(path=gets, last=header_text, query=st.lists(form_pairs | st.tuples(st.just("connector"), text), max_size=4))
    def get(path: str, last: str, query: list[tuple[str, str]]) -> None:
        hold(client.get(f"{path}?{form(query).decode()}", headers={b"Last-Event-ID": last.encode("latin-1")}))

    @EXAMPLES
    @given(path=gets, cookie=header_text, raw=st.text(string.printable.strip(), max_size=60))
    def get_as_stranger(path: str, cookie: str, raw: str) -> None:
        cookies = "; ".join(f"expressync_{name}={cookie}" for name in ("browser", "kiosk", "driver"))
        with httpx.Client(base_url=preauth.http.base_url, trust_env=False, timeout=20) as stranger:
            address = f"{path}?{raw.replace('#', '')}"
            hold(stranger.get(address, headers={b"Cookie": cookies.encode("latin-1")}))

    with httpx.Client(base_url=preauth.http.base_url, trust_env=False, timeout=20) as client:
        client.cookies = preauth.http.cookies
        for fuzz in (post, post_form, post_json, get, get_as_stranger):
            await asyncio.to_thread(fuzz)
    assert (await preauth.http.get("/.well-known/jwks.json")).status_code == 200


async def test_more_fields_than_a_form_has_are_refused(preauth: Preauth) -> None:
    """A form with a thousand fields costs no more than its bytes, at every route that takes one."""
    many = form([("a", "b")] * 1000)
    for path in ("/api/token", "/scan", "/kiosk"):
        answer = await preauth.http.post(
            path, content=many, headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
        assert answer.status_code == 400
    huge = await preauth.http.post("/kiosk", content=b"code=" + b"A" * 20_000)
    assert huge.status_code == 413
