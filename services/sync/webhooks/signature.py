"""Whether Lago sent this, byte for byte (facts: Webhooks). Nothing is read from a body before that is known."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from joserfc.jws import JWSRegistry

# A header has some bytes beyond the body that it carries: base64 makes three bytes four.
_HEADER_BYTES: Final = 512
_SIGNATURE_BYTES: Final = 1024


class BadSignatureError(Exception):
    """It is not Lago's. `why` is for the log; whoever sent it is told nothing."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def parse_keys(text: str) -> list[bytes]:
    """Keys from a setting, separated by commas."""
    return [key.encode() for part in text.split(",") if (key := part.strip())]


def base64_hmac(key: bytes, body: bytes) -> str:
    return base64.b64encode(hmac.new(key, body, hashlib.sha256).digest()).decode()


def verify_hmac(keys: Sequence[bytes], body: bytes, signature: str) -> None:
    """base64(HMAC-SHA256(key, body)) by any of the keys. All are tried, in constant time each.

    :raises BadSignatureError:
    """
    given = signature.encode("utf-8", "replace")
    matches = [hmac.compare_digest(base64_hmac(key, body).encode(), given) for key in keys]
    if not matches:
        raise BadSignatureError("it is signed with hmac, and EXPRESSYNC_SYNC_LAGO_WEBHOOK_KEY has no key")
    if not any(matches):
        raise BadSignatureError("none of the keys in EXPRESSYNC_SYNC_LAGO_WEBHOOK_KEY made this signature")


def read_public_key(text: str) -> RSAKey:
    """Lago's public key: a PEM in base64 with line breaks.

    :raises ValueError: it is not one.
    """
    try:
        return RSAKey.import_key(base64.b64decode("".join(text.split()), validate=True))
    except (ValueError, JoseError) as error:
        raise ValueError("Lago's public key for webhooks cannot be read.") from error


def verify_jwt(key: RSAKey, body: bytes, token: str, *, issuer: str) -> None:
    """RS256 and nothing else, made by `issuer`, whose claim `data` has exactly the bytes of the body.

    :raises BadSignatureError:
    """
    try:
        claims = jwt.decode(token, key, registry=_registry(len(body))).claims
    except (JoseError, ValueError, RecursionError) as error:
        raise BadSignatureError(f"the token is none of Lago's ({type(error).__name__})") from error
    data, made_by = claims.get("data"), claims.get("iss")
    if not isinstance(data, str) or not hmac.compare_digest(data.encode("utf-8", "surrogatepass"), body):
        raise BadSignatureError("the token was made for another body")
    if not isinstance(made_by, str) or made_by.rstrip("/") != issuer.rstrip("/"):
        raise BadSignatureError(
            f"the token was made by {str(made_by)[:200]!r}, and {issuer!r} is expected"
            " (EXPRESSYNC_SYNC_LAGO_WEBHOOK_ISSUER)"
        )


def _registry(body_bytes: int) -> JWSRegistry:
    registry = JWSRegistry(algorithms=["RS256"])
    registry.max_header_length = _HEADER_BYTES
    registry.max_signature_length = _SIGNATURE_BYTES
    # The body as a JSON string: each byte may be escaped to six, and base64 comes on top.
    registry.max_payload_length = 8 * body_bytes + 4096
    return registry
