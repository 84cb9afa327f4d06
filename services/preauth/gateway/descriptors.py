"""How many chargers this process has file descriptors for: where they run out, the database's connection goes, too."""

import resource
import sys
from dataclasses import dataclass
from typing import Final

from services.preauth.gateway.unasked import MOST

EACH: Final = 2
"""Of a charger's: its own connection, and the one to SteVe."""

OTHERS: Final = 1024
"""For the hook's and the pages' connections, the database, the broker and files."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many chargers, and how many connections that have not asked yet."""

    chargers: int
    unasked: int


def raised() -> int:
    """How many this process may have, once it allowed itself all that it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            # Some kernels allow fewer than they say. What there is, is told.
            pass
        else:
            soft = hard
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def room(limit: int) -> Room:
    """What fits into so many descriptors."""
    unasked, others = min(MOST, limit // 4), min(OTHERS, limit // 4)
    return Room(max(1, (limit - unasked - others) // EACH), max(1, unasked))


def too_small(limit: int, chargers: int) -> str | None:
    """What to say where not so many chargers fit."""
    fit = room(limit).chargers
    if fit >= chargers:
        return None
    return (
        f"this process may open {limit} files, which is enough for {fit} chargers, and it is to hold {chargers};"
        " raise its limit (ulimit -Hn, LimitNOFILE=), or lower EXPRESSYNC_PREAUTH_OCPP_MAX_CHARGERS"
    )
