"""Signatures of what others send us, over the raw bytes, with several keys valid at once for rotation."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from standardwebhooks import Webhook, WebhookVerificationError

STANDARD_WEBHOOKS_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")


def hex_hmac(key: bytes, body: bytes) -> str:
    """Lowercase hex HMAC-SHA256, as the patched SteVe puts it into X-Signature (facts: the hook)."""
    return hmac.new(key, body, hashlib.sha256).hexdigest()


def verify_hex_hmac(keys: Sequence[bytes], body: bytes, signature: str) -> bool:
    """Whether any key made this signature. All keys are tried, in constant time each."""
    given = signature.encode("utf-8", "replace")
    matches = [hmac.compare_digest(hex_hmac(key, body).encode(), given) for key in keys]
    return any(matches)


def standard_webhook(key: bytes) -> Webhook:
    """The Standard Webhooks verifier for a raw key; it checks the timestamp to ±5 minutes."""
    return Webhook(base64.b64encode(key).decode())


def verify_standard_webhook(keys: Sequence[bytes], body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether any key made these Standard Webhooks headers (https://www.standardwebhooks.com)."""
    for key in keys:
        try:
            standard_webhook(key).verify(body.decode("utf-8", "replace"), dict(headers))
        except (WebhookVerificationError, ValueError):
            continue
        return True
    return False
