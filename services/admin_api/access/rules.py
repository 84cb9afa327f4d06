"""Who may do what, which passwords are good enough, how fast somebody may guess. Values in, values out."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from shared.contracts.events.admin_api import Role

SessionKind = Literal["browser", "cli"]

_RANK: Final[Mapping[str, int]] = {"viewer": 0, "operator": 1, "admin": 2}
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
SHORTEST_PASSWORD: Final = 12
LONGEST_PASSWORD: Final = 256
"""Characters. The upper bound only keeps a request from buying much hashing."""

FORGET_AFTER: Final = timedelta(minutes=15)
"""So long after the last attempt, counting starts again."""


def allows(role: Role, needed: Role) -> bool:
    """Viewers read, operators change cards, links and sessions, admins also operators, tokens, kiosks and keys."""
    return _RANK[role] >= _RANK[needed]


def operator_name(typed: str) -> str:
    """The name's one spelling: trimmed and lower-cased."""
    return typed.strip().lower()


def is_operator_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def password_fault(password: str, *, name: str, one_time: str | None = None) -> str | None:
    """What is wrong with a new password, as a sentence, or None.

    Length counts, not kinds of characters (NIST SP 800-63B, section 3.1.1).
    """
    if len(password) < SHORTEST_PASSWORD:
        return f"The new password has {len(password)} characters; at least {SHORTEST_PASSWORD} are needed."
    if len(password) > LONGEST_PASSWORD:
        return f"The new password has {len(password)} characters; at most {LONGEST_PASSWORD} are allowed."
    if one_time is not None and password == one_time:
        return "The new password is the one-time one; choose another."
    if len(set(password)) < 4 or (len(name) > 3 and password.lower().replace(name, "") == ""):
        return "The new password repeats itself; choose one that cannot be guessed."
    return None


@dataclass(frozen=True, slots=True)
class Limit:
    """From the `free`th attempt on, each closes the bucket: for `first_s` seconds, then doubling up to `longest_s`."""

    free: int
    first_s: int
    longest_s: int


LIMITS: Final[Mapping[str, Limit]] = {
    # Somebody who forgot a password meets this one; nobody else does.
    "pair": Limit(free=5, first_s=30, longest_s=900),
    # One machine that tries many names.
    "source": Limit(free=30, first_s=30, longest_s=900),
    # Many machines that try one name. Short, because it also keeps the operator out.
    "name": Limit(free=50, first_s=15, longest_s=60),
}


@dataclass(frozen=True, slots=True)
class Bucket:
    """How often a sign-in was tried, by one of the three ways to count."""

    attempts: int
    last_attempt_at: datetime
    locked_until: datetime | None


def locked_for(bucket: Bucket, now: datetime) -> timedelta:
    """How long this bucket takes no attempt; zero when it takes one."""
    if bucket.locked_until is None or bucket.locked_until <= now:
        return timedelta()
    return bucket.locked_until - now


def count_attempt(bucket: Bucket | None, limit: Limit, now: datetime) -> Bucket:
    """The bucket after one more attempt, which is counted before the password is looked at: guesses made at the same
    time cannot pass together. A success empties it.
    """
    before = bucket.attempts if bucket and now - bucket.last_attempt_at < FORGET_AFTER else 0
    attempts = before + 1
    if attempts < limit.free:
        return Bucket(attempts, now, None)
    doublings = min(attempts - limit.free, 16)
    return Bucket(attempts, now, now + timedelta(seconds=min(limit.first_s * 2**doublings, limit.longest_s)))


def source_of(address: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 that one IPv6 customer has."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long sessions live."""

    idle: timedelta
    browser: timedelta
    cli: timedelta

    def expires_at(self, kind: SessionKind, now: datetime) -> datetime:
        return now + (self.browser if kind == "browser" else self.cli)

    def is_over(self, kind: SessionKind, *, last_seen_at: datetime, expires_at: datetime, now: datetime) -> bool:
        """Only a browser, which others may find open, ends by being idle."""
        return expires_at <= now or (kind == "browser" and last_seen_at + self.idle <= now)
