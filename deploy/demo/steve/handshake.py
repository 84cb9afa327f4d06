"""Who may connect: SteVe's refusals at the WebSocket handshake, in its order (facts/steve.md)."""

import hmac
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from websockets.datastructures import Headers

from deploy.demo.steve.model import Charger
from deploy.demo.steve.rest import basic_credentials

OCPP_PATH = "/steve/websocket/CentralSystemService"
SUBPROTOCOLS = ("ocpp1.2", "ocpp1.5", "ocpp1.6")
# Characters SteVe does not take in a charge box id (inferred).
_MALFORMED = re.compile(r"[=/()<>]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Refusal:
    status: int
    why: str


def read_charge_box_id(path: str) -> str | Refusal:
    """The percent-decoded id of a request path; 404 outside the endpoint, 400 when malformed."""
    plain = path.partition("?")[0]
    prefix, _, raw = plain.partition(OCPP_PATH + "/")
    if prefix or OCPP_PATH not in plain:
        return Refusal(404, "no such endpoint")
    if _BAD_ESCAPE.search(raw):
        return Refusal(400, "the charge box id is not percent-encoded properly")
    try:
        charge_box_id = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return Refusal(400, "the charge box id is not UTF-8")
    if not charge_box_id or charge_box_id != charge_box_id.strip() or _MALFORMED.search(charge_box_id):
        return Refusal(400, f"{charge_box_id!r} is no charge box id")
    return charge_box_id


def check_credentials(charger: Charger, authorization: str | None) -> Refusal | None:
    """Only a charger with a password must show one; the user name is its id (OCPP 1.6 security, profile 1)."""
    if charger.password is None:
        return None
    wanted = f"{charger.charge_box_id}:{charger.password}".encode()
    if not hmac.compare_digest(basic_credentials(authorization) or b"", wanted):
        return Refusal(401, "bad or missing credentials")
    return None


def offered_subprotocols(headers: Headers) -> list[str]:
    return [
        part.strip() for value in headers.get_all("Sec-WebSocket-Protocol") for part in value.split(",") if part.strip()
    ]


def choose_subprotocol(offered: list[str]) -> str | Refusal:
    """The first of the station's own list that is supported."""
    if not offered:
        return Refusal(400, "no subprotocol is given")
    for one in offered:
        if one in SUBPROTOCOLS:
            return one
    return Refusal(404, f"none of {', '.join(offered)} is supported")
