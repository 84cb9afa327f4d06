"""Lago's two signatures, against what Lago's own code makes and against what an attacker may try."""

import base64
import functools
import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from services.sync.webhooks import signature
from services.sync.webhooks.signature import BadSignatureError

BODY = '{"webhook_type":"customer.updated","customer":{"name":"Zoë — \\u00e9"}}'.encode()
URL = "https://lago.example"


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@functools.cache
def private(key: rsa.RSAPrivateKey) -> RSAKey:
    """To read one takes 50 ms, and each process that collects the tests makes all of these tokens."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return RSAKey.import_key(pem)


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


LAGO, OTHER = new_key(), new_key()
PUBLIC = signature.read_public_key(base64.encodebytes(public_pem(LAGO)).decode())


def token(body: bytes = BODY, *, key: rsa.RSAPrivateKey = LAGO, issuer: object = URL, **header: str) -> str:
    return jwt.encode({"alg": "RS256", **header}, {"data": body.decode(), "iss": issuer}, private(key))


def signed(key: bytes, body: bytes = BODY) -> str:
    return base64.b64encode(hmac.new(key, body, hashlib.sha256).digest()).decode()


def test_hmac_by_any_of_our_keys_is_lagos() -> None:
    """While keys are rotated, the old one and the new one are valid."""
    for key in (b"old", b"new"):
        signature.verify_hmac([b"old", b"new"], BODY, signed(key))


@pytest.mark.parametrize(
    "given",
    [
        signed(b"stranger"),
        signed(b"old", BODY + b" "),
        signed(b"old").lower(),
        hmac.new(b"old", BODY, hashlib.sha256).hexdigest(),
        signed(b"old") + "=",
        signed(b""),
        "",
        "é",
    ],
)
def test_another_hmac_is_not(given: str) -> None:
    """One byte, another key, another encoding: refused."""
    with pytest.raises(BadSignatureError):
        signature.verify_hmac([b"old"], BODY, given)


def test_without_a_key_no_hmac_is_valid() -> None:
    """An empty setting opens nothing, not even for the empty key, and the log names it."""
    with pytest.raises(BadSignatureError, match="EXPRESSYNC_SYNC_LAGO_WEBHOOK_KEY"):
        signature.verify_hmac([], BODY, signed(b""))


def test_keys_are_separated_by_commas() -> None:
    """Blanks around them and empty ones are no keys."""
    assert signature.parse_keys(" one, two,, ") == [b"one", b"two"]
    assert signature.parse_keys("") == []


def test_lagos_token_for_these_bytes_is_valid() -> None:
    """RS256 by Lago's key, with the body as a string; a slash at the end of the address is none."""
    signature.verify_jwt(PUBLIC, BODY, token(), issuer=URL + "/")


def test_a_large_body_is_no_reason_to_refuse() -> None:
    """An invoice with many fees is far beyond what a token usually carries."""
    body = json.dumps({"fees": ["é\n" * 50] * 2_000}, ensure_ascii=False).encode()
    assert len(body) > 300_000
    signature.verify_jwt(PUBLIC, body, token(body), issuer=URL)


def test_the_public_key_must_not_verify_as_a_secret() -> None:
    """A token signed with HS256 and the public key as its secret is the classic forgery."""
    secret = OctKey.import_key(public_pem(LAGO).replace(b"-----BEGIN PUBLIC KEY-----", b"x"))
    forged = jwt.encode({"alg": "HS256"}, {"data": BODY.decode(), "iss": URL}, secret)
    with pytest.raises(BadSignatureError):
        signature.verify_jwt(PUBLIC, BODY, forged, issuer=URL)


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "forged",
    [
        token(key=OTHER),
        token(BODY + b" "),
        token(issuer="https://elsewhere.example"),
        token(issuer=None),
        token(issuer=["https://lago.example"]),
        token()[:-4] + "AAAA",
        f"{_part({'alg': 'none'})}.{_part({'data': BODY.decode(), 'iss': URL})}.",
        f"{_part({'alg': 'none'})}.{_part({'data': BODY.decode(), 'iss': URL})}.{token().rsplit('.', 1)[1]}",
        "a.b.c",
        "",
        ".",
        "é.é.é",
        token() + ".x",
    ],
)
def test_any_other_token_is_refused(forged: str) -> None:
    """Another key, other bytes, another issuer, another algorithm or no token at all."""
    with pytest.raises(BadSignatureError):
        signature.verify_jwt(PUBLIC, BODY, forged, issuer=URL)


def test_claims_that_are_the_same_json_and_other_bytes_are_refused() -> None:
    """It is compared byte for byte: equal JSON with other blanks was not what Lago signed."""
    spaced = json.dumps(json.loads(BODY), indent=1).encode()
    with pytest.raises(BadSignatureError, match="another body"):
        signature.verify_jwt(PUBLIC, spaced, token(), issuer=URL)


def test_a_body_of_half_a_character_is_refused() -> None:
    """Bytes that are no UTF-8 cannot have been signed as a string."""
    with pytest.raises(BadSignatureError):
        signature.verify_jwt(PUBLIC, b"\xff", token(b"x"), issuer=URL)


@pytest.mark.parametrize("text", ["", "no base64!", base64.b64encode(b"no pem").decode()])
def test_a_public_key_that_is_none_is_told(text: str) -> None:
    """Whatever Lago answers instead of its key is an error of its own."""
    with pytest.raises(ValueError, match="cannot be read"):
        signature.read_public_key(text)
