"""The public certificate authorities, read once for all of a process and of those that are forked from it."""

import functools
import ssl
from typing import Any

import certifi

_create = ssl.create_default_context


@functools.cache
def public_authorities() -> ssl.SSLContext:
    return _create(cafile=certifi.where())


def create_once(*given: Any, **named: Any) -> ssl.SSLContext:  # noqa: ANN401 - whatever ssl takes
    """Httpx reads them for each client, 40 ms each time, also for plain HTTP."""
    return public_authorities() if not given and named == {"cafile": certifi.where()} else _create(*given, **named)
