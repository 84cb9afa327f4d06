"""Secrets that others hold: made here, kept as digests, and compared by looking the digest up."""

import hashlib
import secrets
from typing import Final

# Typed in from one screen to another: nothing that is taken for something else.
ALPHABET: Final = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"


def new_secret() -> str:
    """256 bits, safe in a cookie and in an address."""
    return secrets.token_urlsafe(32)


def new_code(length: int) -> str:
    """A code that people read and type."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def new_typed_code() -> str:
    """A code that opens something to whoever types it in, once and for some minutes. 50 bits: from however many
    addresses it is tried, a thousand times a second, nobody finds one (decision 23).
    """
    return new_code(10)


def typed(code: str) -> str:
    """A code as it was meant: people add spaces and dashes, and type in lower case."""
    return "".join(character for character in code.upper() if character in ALPHABET)


def digest(secret: str) -> bytes:
    """What is kept of a secret. No salt or stretching: the secrets are random and long."""
    return hashlib.sha256(secret.encode()).digest()
