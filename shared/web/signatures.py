"""Signatures of what others send us, over the raw bytes, with several keys valid at once for rotation.

All keys are tried, in constant time each.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence


def hex_hmac(key: bytes, body: bytes) -> str:
    """Lowercase hex HMAC-SHA256, as the patched SteVe puts it into X-Signature (facts: the hook)."""
    return hmac.new(key, body, hashlib.sha256).hexdigest()


def verify_hex_hmac(keys: Sequence[bytes], body: bytes, signature: str) -> bool:
    """Whether any key made this signature."""
    given = signature.encode("utf-8", "replace")
    matches = [hmac.compare_digest(hex_hmac(key, body).encode(), given) for key in keys]
    return any(matches)


def verify_standard_webhook(keys: Sequence[bytes], body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether any key made these Standard Webhooks headers (https://www.standardwebhooks.com).

    Unlike in that standard's own library the timestamp is not judged: whether a drifting clock matters, the caller
    knows.
    """
    message_id, timestamp = headers.get("webhook-id"), headers.get("webhook-timestamp")
    if not message_id or not timestamp:
        return False
    content = f"{message_id}.{timestamp}.".encode("utf-8", "replace") + body
    given = headers.get("webhook-signature", "").split(" ")
    candidates = [one.removeprefix("v1,").encode("utf-8", "replace") for one in given if one.startswith("v1,")]
    matches = [
        hmac.compare_digest(base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()), candidate)
        for key in keys
        for candidate in candidates
    ]
    return any(matches)
