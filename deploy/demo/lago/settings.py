"""What a simulated Lago is told at its start."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from deploy.demo.lago.faults import Fault

EventsStore = Literal["postgres", "clickhouse"]
WebhookAlgorithm = Literal["hmac", "jwt"]


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """Requests a second and organisation (facts: Events). Lago's cloud: 500, 200, 50; self-hosted: none."""

    ingestion: int | None = None
    current_usage: int | None = None
    other: int | None = None


CLOUD_LIMITS = RateLimits(ingestion=500, current_usage=200, other=50)


@dataclass(frozen=True, kw_only=True)
class LagoSettings:
    """One simulated organisation."""

    host: str = "127.0.0.1"
    port: int = 0  # 0 takes a free one
    api_key: str = "lago-simulator-key"
    events_store: EventsStore = "postgres"
    # Whether a PostgreSQL Lago says which subscription an event is of: old ones did, and since 2023 none does.
    shows_subscription: bool = False
    seed: Mapping[str, Any] = field(default_factory=dict)  # shape: `seed.py`
    state_file: Path | None = None  # SQLite; None keeps everything in memory
    faults: tuple[Fault, ...] = ()
    limits: RateLimits = RateLimits()
    threads: int = 3  # requests served at once: a self-hosted Lago's default (facts: Events)
    event_writes_allowed: bool = True  # False: 403 write_action_not_allowed_for_event
    max_properties_bytes: int = 2_400  # beyond it Lago answers 500 for ever (fact 8)
    webhook_url: str | None = None
    webhook_algorithm: WebhookAlgorithm = "hmac"
    webhook_hmac_key: str = "lago-simulator-hmac-key"
    webhook_time_factor: float = 1.0  # multiplies the waits between tries; tests make them short
    clock: Callable[[], datetime] = utc_now
