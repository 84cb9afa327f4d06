"""The gateway's settings: off without SteVe's address, wrong values named."""

from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import ValidationError

from services.preauth.gateway.handshake import Upstream
from services.preauth.settings import PreauthSettings

BASE: dict[str, Any] = {"database_url": "postgresql://x", "amqp_url": "amqp://x"}


def test_without_steves_address_the_gateway_is_off() -> None:
    """A preauth that only serves the hook needs no setting of the gateway."""
    assert PreauthSettings(**BASE).gateway() is None


def test_settings_become_the_gateways_limits() -> None:
    """Milliseconds become seconds, addresses networks, and a stop ends before the supervisor's patience does."""
    settings = PreauthSettings(
        **BASE,
        steve_ocpp_url="wss://steve/steve/websocket/CentralSystemService",
        ocpp_deadline_ms=150,
        ocpp_proxies="10.0.0.1, 192.168.0.0/16",
        stop_grace_s=5,
    )
    config = settings.gateway()
    assert config is not None
    assert config.upstream == Upstream(True, "steve", 443, "/steve/websocket/CentralSystemService")
    assert config.limits.deadline_s == 0.15
    assert config.proxies == (ip_network("10.0.0.1/32"), ip_network("192.168.0.0/16"))
    assert config.stop_s < 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steve_ocpp_url", "http://steve/x"),
        ("steve_ocpp_url", "ws://"),
        ("ocpp_proxies", "10.0.0.1, nowhere"),
        ("ocpp_deadline_ms", 0),
        ("ocpp_port", 70_000),
    ],
)
def test_wrong_values_are_named(name: str, value: object) -> None:
    """A value that cannot be meant is refused at start, under the setting's name."""
    with pytest.raises(ValidationError, match=name):
        PreauthSettings(**(BASE | {name: value}))
