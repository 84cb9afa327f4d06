import base64
import hashlib
import hmac

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from deploy.demo.lago.webhooks import Signer, wait_after

BODY = b'{"webhook_type":"invoice.created","name":"\xc3\x89lo\xc3\xafse"}'


def test_hmac_signs_the_raw_body() -> None:
    """The signature is base64 of HMAC-SHA256 over the bytes that are sent."""
    expected = base64.b64encode(hmac.new(b"secret", BODY, hashlib.sha256).digest()).decode()
    assert Signer("secret").sign(BODY, "hmac") == expected


def test_jwt_carries_the_body_and_the_issuer_and_never_expires() -> None:
    """RS256 under the published key; `data` is the body as a string, `iss` the API URL."""
    signer = Signer("secret")
    signer.issuer = "https://lago.example"
    text = signer.public_key()
    assert max(len(line) for line in text.splitlines()) == 60
    public = RSAKey.import_key(base64.b64decode(text).decode())
    token = jwt.decode(signer.sign(BODY, "jwt"), public, algorithms=["RS256"])
    assert token.claims == {"data": BODY.decode(), "iss": "https://lago.example"}


@pytest.mark.parametrize(("chance", "total"), [(0.0, 21.0), (1.0, 23.55)])
def test_three_tries_take_about_24_seconds(chance: float, total: float) -> None:
    """3 s after the first try, 18 to 20.4 s after the second."""
    assert wait_after(1, chance) + wait_after(2, chance) == pytest.approx(total)
