"""The one place that makes HTTP clients, so that a successor of httpx is a change of one file."""

import functools
import ssl

import certifi
import httpx


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
    """A pooled client. It never follows redirects: a redirect to a login page is an answer, and a wrong one."""
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
