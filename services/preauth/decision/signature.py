"""Who calls the hook: the patched SteVe's X-Signature, or Standard Webhooks headers, with any of the keys."""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from shared.web.signatures import verify_hex_hmac, verify_standard_webhook

_PREFIX: Final = "whsec_"


def parse_keys(text: str) -> list[bytes]:
    """Keys from a setting, separated by commas. One that begins with `whsec_` is base64 (Standard Webhooks).

    :raises ValueError: when such a key is not base64.
    """
    keys = []
    for key in (part.strip() for part in text.split(",")):
        if key.startswith(_PREFIX):
            keys.append(base64.b64decode(key.removeprefix(_PREFIX), validate=True))
        elif key:
            keys.append(key.encode())
    return keys


def signed(keys: Sequence[bytes], body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether one of the keys made the signature of this call.

    Freshness is not judged here: a drifting clock must not refuse calls (contracts: Hook).
    """
    signature = headers.get("x-signature")
    if signature is not None:
        return verify_hex_hmac(keys, body, signature)
    return verify_standard_webhook(keys, body, headers)


def webhook_time(headers: Mapping[str, str]) -> datetime | None:
    """When the call was signed, by its Standard Webhooks header (seconds since the epoch), or None without one."""
    timestamp = headers.get("webhook-timestamp")
    if timestamp is None:
        return None
    try:
        return datetime.fromtimestamp(int(timestamp), UTC)
    except (ValueError, OverflowError, OSError):
        return None
