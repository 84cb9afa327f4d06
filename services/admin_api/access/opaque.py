"""Secrets that mean nothing by themselves: made here, shown once, kept only as a digest."""

import hashlib
import hmac
import secrets
from typing import Final

PROGRAM: Final = "expressync"
TERMINAL: Final = "expsession"
"""How a secret begins, so that people and scanners recognise it."""
# Without characters that are taken for one another when read aloud or copied from a screen.
_CLEAR: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_CSRF: Final = b"expressync csrf"


def session_token() -> str:
    """256 random bits."""
    return f"{TERMINAL}_{secrets.token_urlsafe(32)}"


def form_secret() -> str:
    """What the forms of a browser without a session are bound to."""
    return secrets.token_urlsafe(32)


def api_token() -> tuple[str, str]:
    """A token and its prefix, which may be shown: enough to recognise it, too little to guess it."""
    prefix = f"{PROGRAM}_{''.join(secrets.choice(_CLEAR) for _ in range(8))}"
    return f"{prefix}_{secrets.token_urlsafe(32)}", prefix


def one_time_password() -> str:
    """Sixteen clear characters, 79 bits, in groups that can be read aloud."""
    return "-".join("".join(secrets.choice(_CLEAR) for _ in range(4)) for _ in range(4))


def digest(token: str) -> bytes:
    """What is stored of a token. It has 256 bits of its own, so a fast hash cannot be turned back."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def csrf_token(secret: str) -> str:
    """The form token that belongs to a cookie's value: only who reads the cookie or our pages can know it."""
    return hmac.new(secret.encode("utf-8", "replace"), _CSRF, hashlib.sha256).hexdigest()


def same(expected: str, given: str) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))
