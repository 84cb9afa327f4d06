"""The one place that makes HTTP clients, so that a successor of httpx is a change of one file."""

import functools
import ssl

import certifi
import httpx


class UnsendableHeaderError(ValueError):
    """Says which header. Its value may be a secret, which the libraries underneath would repeat in their words."""

    def __init__(self, name: str) -> None:
        super().__init__(f"what {name} is to say cannot be part of a header")


def sendable(value: str) -> bool:
    """Whether a header can carry it as it is: ASCII without line breaks, and no space at its ends (RFC 9110, 5.5)."""
    return value.isascii() and value.isprintable() and value == value.strip()


@functools.cache
def _trust() -> ssl.SSLContext:
    """Public authorities, and those that this machine trusts besides (its store, SSL_CERT_FILE)."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context


def http_client(
    base_url: str,
    *,
    headers: dict[str, str] | None = None,
    auth: httpx.Auth | tuple[str, str] | None = None,
    timeout_s: float = 10.0,
    connections: int = 4,
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """A pooled client. It never follows redirects: a redirect to a login page is an answer, and a wrong one.

    :raises UnsendableHeaderError: a header's value is no header's.
    """
    for name, value in (headers or {}).items():
        if not sendable(value):
            raise UnsendableHeaderError(name)
    return httpx.AsyncClient(
        base_url=base_url,
        # Without TLS there is nothing to verify, and no need to load all authorities.
        verify=_trust() if base_url.startswith("https://") else False,
        headers=headers,
        auth=auth,
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        follow_redirects=False,
        transport=transport,
        trust_env=False,
    )
