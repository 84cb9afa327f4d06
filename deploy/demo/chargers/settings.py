from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deploy.demo.chargers.faults import Fault
from deploy.demo.chargers.session import utc_now

# What happened at a charger: {"what": "authorize", "charge_box_id": "CP-1", "told": "Accepted", ...}.
Happening = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ChargerSettings:
    ocpp_url: str  # "ws://HOST:PORT/steve/websocket/CentralSystemService", or a gateway's "ws://HOST/ocpp"
    charge_box_id: str
    password: str | None = None
    subprotocols: tuple[str, ...] = ("ocpp1.6",)
    connectors: int = 2
    vendor: str = "ExpresSync"
    model: str = "Demo 22"
    firmware: str = "1.4.2"
    # A charger that does not honour a Blocked charges although it was told so.
    honours_override: bool = True
    # Told Blocked once, a charger that keeps it refuses the card by itself until that expires, also while online. Needs
    # AuthorizationCacheEnabled.
    refuses_from_cache: bool = False
    configuration: dict[str, str] = field(default_factory=dict)
    meter_start_wh: int = 1_000
    answer_timeout_s: float = 30
    reconnect: bool = True
    reconnect_min_s: float = 0.5
    reconnect_max_s: float = 30
    heartbeats: bool = False
    clock: Callable[[], datetime] = field(default=utc_now)
    report: Callable[[Happening], None] | None = None
    faults: list[Fault] = field(default_factory=list)
