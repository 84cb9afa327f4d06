import ipaddress
from pathlib import Path

from pydantic import Field, field_validator

from services.preauth.addresses import Network
from services.preauth.gateway.handshake import Upstream
from services.preauth.gateway.house import Limits
from services.preauth.gateway.server import GatewayConfig
from shared.runtime.settings import ServiceSettings
from shared.runtime.supervisor import KEPT_FOR_WRITERS


class GatewaySettings(ServiceSettings):
    """The gateway's part of a service's settings."""

    steve_ocpp_url: str | None = Field(
        None,
        description="SteVe's OCPP-J endpoint, ws://HOST:PORT/steve/websocket/CentralSystemService; without it the"
        " gateway does not listen",
    )
    ocpp_port: int = Field(8094, ge=0, le=65535, description="Port chargers connect to, at /ocpp/<their id>")
    ocpp_deadline_ms: int = Field(
        200,
        ge=10,
        le=5000,
        description="A card that is not decided within this many milliseconds is passed on to SteVe",
    )
    ocpp_blocked_for_s: int = Field(
        5, ge=0, le=300, description="Seconds for which a charger may remember the Blocked of an intercepted card"
    )
    ocpp_tls_certificate: Path | None = Field(
        None, description="Certificate chain (PEM), to serve wss directly; none behind a proxy that ends TLS"
    )
    ocpp_tls_key: Path | None = Field(
        None, description="The certificate's key (PEM), unless it stands in the same file"
    )
    ocpp_proxies: str = Field(
        "", description="Addresses or networks, separated by commas, whose X-Forwarded-For is believed"
    )
    ocpp_max_chargers: int = Field(
        5_000,
        ge=1,
        description="Chargers that one process holds at most; each needs two file descriptors (ulimit -Hn), and fewer"
        " are let in where these do not suffice",
    )
    ocpp_frames_per_s: int = Field(
        200, ge=1, description="Messages a charger may send for long; a faster one is read more slowly"
    )
    ocpp_stall_s: int = Field(60, ge=1, le=3600, description="A peer that does not read for this long is cut off")
    ocpp_reconnects_per_s: int = Field(
        100,
        ge=1,
        description="How fast chargers are sent away at a stop, since they come back at once; faster where the stop's"
        " time needs it",
    )

    @field_validator("steve_ocpp_url")
    @classmethod
    def _is_an_endpoint(cls, url: str | None) -> str | None:
        if url is not None:
            Upstream.parse(url)
        return url

    @field_validator("ocpp_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        _networks(text)
        return text

    def gateway(self) -> GatewayConfig | None:
        """What the gateway needs, or None where it shall not listen."""
        if self.steve_ocpp_url is None:
            return None
        return GatewayConfig(
            upstream=Upstream.parse(self.steve_ocpp_url),
            limits=Limits(
                deadline_s=self.ocpp_deadline_ms / 1000,
                blocked_for_s=self.ocpp_blocked_for_s,
                frames_per_s=self.ocpp_frames_per_s,
                burst_frames=5 * self.ocpp_frames_per_s,
                stall_s=self.ocpp_stall_s,
            ),
            certificate=self.ocpp_tls_certificate,
            key=self.ocpp_tls_key,
            proxies=_networks(self.ocpp_proxies),
            max_chargers=self.ocpp_max_chargers,
            # A little less than the supervisor grants a door, so that the end is ours.
            stop_s=min(self.stop_grace_s, 10.0) * (1 - KEPT_FOR_WRITERS) * 0.95,
            reconnects_per_s=self.ocpp_reconnects_per_s,
        )


def _networks(text: str) -> tuple[Network, ...]:
    """:raises ValueError: naming what is no address."""
    return tuple(ipaddress.ip_network(one.strip(), strict=False) for one in text.split(",") if one.strip())
