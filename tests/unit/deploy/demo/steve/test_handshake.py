import base64

import pytest

from deploy.demo.steve import handshake
from deploy.demo.steve.handshake import Refusal
from deploy.demo.steve.model import Charger

BASE = "/steve/websocket/CentralSystemService"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"{BASE}/CP-1", "CP-1"),
        (f"{BASE}/CP-1?station=yes", "CP-1"),
        (f"{BASE}/DE%2AABC%20%2501", "DE*ABC %01"),
        (f"{BASE}/Stra%C3%9Fe", "Straße"),
        (f"{BASE}/", 400),
        (f"{BASE}/%20CP-1", 400),
        (f"{BASE}/CP-1%2", 400),
        (f"{BASE}/CP%FF", 400),
        (f"{BASE}/CP%2F1", 400),
        (f"{BASE}/a/b", 400),
        (f"{BASE}/CP%3D1", 400),
        ("/elsewhere/CP-1", 404),
        (BASE, 404),
    ],
)
def test_reading_the_charge_box_id(path: str, expected: str | int) -> None:
    """The id is percent-decoded; malformed ones are 400, other paths 404."""
    found = handshake.read_charge_box_id(path)
    if isinstance(expected, str):
        assert found == expected
    else:
        assert isinstance(found, Refusal)
        assert found.status == expected


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (["ocpp1.6"], "ocpp1.6"),
        (["ocpp2.0.1", "ocpp1.6", "ocpp1.5"], "ocpp1.6"),
        (["ocpp1.5", "ocpp1.6"], "ocpp1.5"),
        ([], 400),
        (["ocpp2.0.1"], 404),
    ],
)
def test_choosing_the_subprotocol(offered: list[str], expected: str | int) -> None:
    """The first supported one in the station's order; none offered is 400, none supported 404."""
    chosen = handshake.choose_subprotocol(offered)
    if isinstance(expected, str):
        assert chosen == expected
    else:
        assert isinstance(chosen, Refusal)
        assert chosen.status == expected


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("password", "header", "admitted"),
    [
        (None, None, True),
        (None, basic("anybody:anything"), True),
        ("secret", basic("CP-1:secret"), True),
        ("secret", None, False),
        ("secret", basic("CP-1:wrong"), False),
        ("secret", basic("CP-2:secret"), False),
        ("secret", "Bearer abc", False),
        ("secret", "Basic !!!", False),
    ],
)
def test_credentials(password: str | None, header: str | None, *, admitted: bool) -> None:
    """Only a charger with a password must present it, under its own id."""
    refusal = handshake.check_credentials(Charger(pk=1, charge_box_id="CP-1", password=password), header)
    assert (refusal is None) == admitted
    assert refusal is None or refusal.status == 401
