"""What of a handshake goes to SteVe, and what of its answer goes back (RFC 6455, chapter 4). No I/O."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from services.preauth.addresses import Network, parse_address

PATH: Final = "/ocpp/"
MAX_REFUSAL_BODY: Final = 4 * 1024
# What the charger says that SteVe has to hear as it was said. The rest of a handshake is about this hop.
_TO_STEVE: Final = ("Authorization", "Origin", "User-Agent", "Sec-WebSocket-Protocol")
_TO_CHARGER: Final = ("WWW-Authenticate", "Content-Type", "Retry-After")
_PLAIN: Final = re.compile(r"[\x21-\x7e]+\Z")


@dataclass(frozen=True, slots=True)
class Route:
    """`raw` is the charger's id as it stood in the path, still encoded, with the query behind it."""

    raw: str
    charge_box_id: str


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    reason: str


def route(path: str) -> Route | Refusal:
    """Read a request target. Whether the id is known or well formed is SteVe's to say, as far as it can be asked."""
    if not path.startswith(PATH):
        return Refusal(404, f"Chargers connect to {PATH}<their id>.")
    raw = path.removeprefix(PATH)
    encoded = raw.partition("?")[0]
    charge_box_id = unquote(encoded)
    # These would lead to another place of SteVe's server, or out of the request line.
    if (
        not _PLAIN.match(raw)
        or "#" in raw
        or "/" in encoded
        or charge_box_id in ("", ".", "..")
        or "\x00" in charge_box_id
    ):
        return Refusal(400, "The charger's id is malformed.")
    return Route(raw, charge_box_id)


@dataclass(frozen=True, slots=True)
class Upstream:
    """SteVe's OCPP-J endpoint, to which a slash and the charger's id are appended."""

    secure: bool
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> "Upstream":
        """:raises ValueError: naming what is wrong with the address."""
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError(f"{url!r} is no WebSocket address; write ws://HOST:PORT/steve/websocket/...")
        if parts.query or parts.fragment or parts.username:
            raise ValueError("the address of SteVe's OCPP endpoint has no query, fragment or credentials")
        secure = parts.scheme == "wss"
        return cls(secure, parts.hostname, parts.port or (443 if secure else 80), parts.path.rstrip("/"))

    def uri(self, found: Route) -> WebSocketURI:
        # The query rides in the path: taken apart, an empty one would be lost.
        return WebSocketURI(self.secure, self.host, self.port, f"{self.path}/{found.raw}", "")


def to_steve(asked: Request, to: Request, client: str) -> None:
    """Put what the charger said into our own request; `client` is where it said it from."""
    for name in _TO_STEVE:
        if name in to.headers:
            del to.headers[name]
        for value in asked.headers.get_all(name):
            to.headers[name] = value
    to.headers["X-Forwarded-For"] = client


def offered(headers: Headers) -> list[Subprotocol]:
    return [
        Subprotocol(one.strip())
        for value in headers.get_all("Sec-WebSocket-Protocol")
        for one in value.split(",")
        if one.strip()
    ]


def refusal(answer: Response) -> Response:
    """SteVe's refusal, for the charger. Anything that is neither an upgrade nor an error is a fault upstream: 502."""
    body = bytes(answer.body or b"")[:MAX_REFUSAL_BODY]
    if not 400 <= answer.status_code <= 599:
        return plain(502, "Bad Gateway", f"The central system answered {answer.status_code} to the handshake.\n")
    headers = Headers()
    for name in _TO_CHARGER:
        for value in answer.headers.get_all(name):
            headers[name] = value
    headers["Content-Length"] = str(len(body))
    headers["Connection"] = "close"
    return Response(answer.status_code, answer.reason_phrase, headers, body)


def plain(status: int, reason: str, text: str) -> Response:
    body = text.encode()
    headers = Headers(
        {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body)), "Connection": "close"}
    )
    return Response(status, reason, headers, body)


def client_address(peer: str, headers: Headers, proxies: Sequence[Network]) -> str:
    """Where a request came from: X-Forwarded-For is believed as far as configured proxies wrote it."""
    hops = [hop.strip() for value in headers.get_all("X-Forwarded-For") for hop in value.split(",") if hop.strip()]
    address = parse_address(peer)
    while hops and address is not None and any(address in network for network in proxies):
        address = parse_address(hops.pop())
    return str(address or parse_address(peer) or peer)
