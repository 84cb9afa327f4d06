from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

# Answers of the REST interface to a call without credentials; which one depends on SteVe's version.
MissingCredentials = Literal["401", "403", "redirect"]


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, order=True)
class SteveVersion:
    """A SteVe release and what its REST interface can do (facts/steve.md)."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> "SteveVersion":
        """Read "3.11"; ValueError names the text that is no version."""
        major, dot, minor = text.partition(".")
        if not (dot and major.isdecimal() and minor.isdecimal()):
            raise ValueError(f"{text!r} is no SteVe version; write it like 3.11")
        return cls(int(major), int(minor))

    @property
    def has_basic_auth(self) -> bool:
        return self >= SteveVersion(3, 8)

    @property
    def has_lists(self) -> bool:
        """Repeated query parameters of `GET /transactions` are lists."""
        return self >= SteveVersion(3, 11)

    @property
    def has_operations(self) -> bool:
        return self >= SteveVersion(3, 11)

    @property
    def has_transaction_details(self) -> bool:
        return self >= SteveVersion(3, 12)

    @property
    def has_expire(self) -> bool:
        return self >= SteveVersion(3, 15)


@dataclass(frozen=True, kw_only=True)
class HookSettings:
    """The patched SteVe's call before each Authorize and StartTransaction (facts/hook.md)."""

    url: str
    key: str
    budget_ms: int = 200
    # How long an idle connection is kept for the next call: the default of Java's own client.
    keep_alive_s: float = 30


@dataclass(frozen=True, kw_only=True)
class SteveSettings:
    host: str = "127.0.0.1"
    rest_port: int = 0  # 0: a free one
    ocpp_port: int = 0
    user: str = "steve"
    password: str = "steve"  # noqa: S105 - a simulator's default, given on its command line
    api_key: str = ""  # STEVE-API-KEY of 3.6 and 3.7
    version: SteveVersion = SteveVersion(3, 15)
    missing_credentials: MissingCredentials = "401"
    auth_delay_ms: int = 20  # stands for the bcrypt check on every call, which keeps a core busy
    auth_cores: int = 2
    hook: HookSettings | None = None
    state_file: Path | None = None
    ping_interval_s: float = 15 * 60
    idle_timeout_s: float = 2 * 60 * 60
    operation_timeout_s: float = 30
    heartbeat_interval_s: int = 14_400
    # What a tag without expiry is sent as; SteVe's own `hours_to_expire` is 1.
    hours_to_expire: int = 1
    compression: bool = False
    clock: Callable[[], datetime] = field(default=utc_now)
