"""Signed tokens for other applications: the code, its one exchange, and the keys."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError
from joserfc.jwk import KeySet

from tests.databases import TestDatabase
from tests.integration.services.preauth.applications import CALLBACK, CLIENT, NEW_KEY, OLD_KEY, VERIFIER, settings_with
from tests.integration.services.preauth.driving import CARD, browser, kiosk_of, log_in, scan
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import Preauth, running


@pytest.fixture
async def preauth(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    async with running(database, tmp_path, **settings_with(OLD_KEY)) as one:
        yield one


async def exchange(preauth: Preauth, code: str, **change: str) -> httpx.Response:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "client_id": "app",
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
        **change,
    }
    return await preauth.http.post("/api/token", data=form)


async def keys_of(preauth: Preauth) -> KeySet:
    return KeySet.import_key_set((await preauth.http.get("/.well-known/jwks.json")).json())


async def a_token(preauth: Preauth) -> str:
    """The token of a driver who just logged in for the application."""
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        answer = await log_in(kiosk, await scan(preauth, kiosk), client=CLIENT)
    preauth.run("DELETE FROM pairing")
    found = await exchange(preauth, httpx.URL(answer.json()["next"]).params["code"])
    token: str = found.json()["access_token"]
    return token


async def test_an_application_gets_a_token_for_a_code_once(preauth: Preauth, sync: SyncDouble) -> None:
    """An application exchanges the code once, with its verifier, for a short token about an opaque card."""
    card_id = sync.know(CARD)
    answer = httpx.Response(0)
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        pairing_id = await scan(preauth, kiosk)
        for wrong in (
            {"redirect_uri": CALLBACK + "/x"},
            {"client_id": "other"},
            {"code_challenge": ""},
            # Of the right length, but no base64url: refused before the scan is used up.
            {"code_challenge": "é" * 43},
            {"code_challenge": "\x00" * 43},
        ):
            assert (await log_in(kiosk, pairing_id, client={**CLIENT, **wrong})).json()["error"] == "invalid_request"
        for change in ({"code_verifier": "w" * 50}, {"client_id": "other"}, {"redirect_uri": "https://x.example"}, {}):
            answer = await log_in(kiosk, pairing_id, client=CLIENT)
            address = httpx.URL(answer.json()["next"])
            assert (str(address.copy_with(query=None)), address.params["state"]) == (CALLBACK, "s&1")
            code = address.params["code"]
            answer = await exchange(preauth, code, **change)
            if change:
                assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
            # Right or wrong, a code is used up.
            assert (await exchange(preauth, code)).json()["error"] == "invalid_grant"
    assert answer.status_code == 200
    keys = await keys_of(preauth)
    assert all("d" not in key for key in keys.as_dict()["keys"])
    claims = jwt.decode(answer.json()["access_token"], keys, algorithms=["ES256"]).claims
    assert (claims["sub"], claims["aud"], claims["amr"]) == (str(card_id), "app", ["card"])
    assert claims["exp"] - claims["iat"] == 300
    assert CARD not in answer.text


async def test_the_signing_key_is_rotated_without_a_gap(
    preauth: Preauth, sync: SyncDouble, monkeypatch: pytest.MonkeyPatch, database: TestDatabase, tmp_path: Path
) -> None:
    """First the new key is published, then it signs while the old one still verifies, then the old one is gone."""
    sync.know(CARD)
    old = await a_token(preauth)
    assert jwt.decode(old, await keys_of(preauth), algorithms=["ES256"]).header["kid"] == OLD_KEY.thumbprint()
    for keys, signs in (((OLD_KEY, NEW_KEY), OLD_KEY), ((NEW_KEY, OLD_KEY), NEW_KEY)):
        async with running(database, tmp_path / keys[0].thumbprint(), **settings_with(*keys)) as replica:
            monkeypatch.setattr(replica.service.requester, "ask", sync.ask)
            published = await keys_of(replica)
            assert [key.kid for key in published.keys] == [key.thumbprint() for key in keys]
            token = jwt.decode(await a_token(replica), published, algorithms=["ES256"])
            assert token.header["kid"] == signs.thumbprint()
            jwt.decode(old, published, algorithms=["ES256"])
    async with running(database, tmp_path / "last", **settings_with(NEW_KEY)) as replica:
        with pytest.raises(InvalidKeyIdError):
            jwt.decode(old, await keys_of(replica), algorithms=["ES256"])
