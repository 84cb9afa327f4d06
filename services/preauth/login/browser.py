"""What a browser holds, where it comes from, and whether a request is really its own."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from services.preauth.addresses import Address, Network, counted, parse_address
from shared.web.problems import Forbidden

# Without their prefix: they are set, read and dropped through `Browsers`.
BROWSER_COOKIE: Final = "expressync_browser"
KIOSK_COOKIE: Final = "expressync_kiosk"
DRIVER_COOKIE: Final = "expressync_driver"

DEVICE_KEPT_S: Final = 400 * 24 * 3600
"""As long as a browser keeps any cookie (RFC 6265bis, 5.5). What is in use is set again, and so never runs out."""


@dataclass(frozen=True, slots=True)
class Browsers:
    """How cookies are set and read here, and which proxies are believed.

    With HTTPS their names carry `__Host-`: neither a neighbouring host nor a page without TLS can set those (RFC
    6265bis, 4.1.3.2).
    """

    secure: bool
    proxies: Sequence[Network] = ()

    def held(self, request: HTTPConnection, name: str) -> str | None:
        """What the browser sends as this cookie."""
        return request.cookies.get(self._full(name))

    def keep(self, response: Response, name: str, value: str, *, max_age_s: int | None = None) -> None:
        """Set a cookie that no script can read and no other site can send."""
        response.set_cookie(
            self._full(name), value, max_age=max_age_s, httponly=True, secure=self.secure, samesite="strict", path="/"
        )

    def drop(self, response: Response, name: str) -> None:
        response.delete_cookie(self._full(name), httponly=True, secure=self.secure, samesite="strict", path="/")

    def source(self, request: HTTPConnection) -> str:
        """Where a request comes from, as it is counted: an IPv4 address, or the /64 of an IPv6 address. A forwarded one
        only from a proxy that is believed.
        """
        peer = request.client.host if request.client else ""
        address = parse_address(peer)
        if address is None:
            return peer
        if not self._believed(address):
            return counted(address)
        # The last one that is not a proxy of ours: what stands before it anybody can write.
        forwarded = [part.strip() for part in request.headers.get("x-forwarded-for", "").split(",")]
        for part in reversed(forwarded):
            before = parse_address(part)
            if before is None:
                break
            if not self._believed(before):
                return counted(before)
        return counted(address)

    def _full(self, name: str) -> str:
        return f"__Host-{name}" if self.secure else name

    def _believed(self, address: Address) -> bool:
        return any(address in network for network in self.proxies)


def parse_proxies(text: str) -> list[Network]:
    """Addresses and networks.

    :raises ValueError: when one is neither.
    """
    return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]


def must_be_own(request: Request) -> None:
    """Refuse a change that another site makes a browser send (the cookies' SameSite is the first lock).

    :raises Forbidden: when the browser says that the request comes from elsewhere.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        # The browser's own word. It keeps it to itself where there is no TLS.
        own = site in {"same-origin", "none"}
    else:
        own = origin is None or origin.partition("://")[2] == request.headers.get("host", "")
    if not own:
        raise Forbidden("This request comes from another site. Open the page itself and try again.")
