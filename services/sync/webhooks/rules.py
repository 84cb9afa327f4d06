"""What a webhook says, what follows from it, and when to try again. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 900.0
# With the pauses between them these last for about two and a half hours.
MOST_ATTEMPTS: Final = 20
LONGEST_ID: Final = 255

_NAME: Final = re.compile(r"[A-Za-z0-9_.]{1,100}")
_SUBSCRIPTION: Final = frozenset({"subscription.started", "subscription.updated", "subscription.terminated"})
_ENDED_UNSTARTED: Final = frozenset({"subscription.canceled"})
_CUSTOMER: Final = frozenset({"customer.created", "customer.updated"})
# A period's invoice: what is billed into this period changes with it.
_INVOICE: Final = frozenset({"invoice.created", "invoice.drafted", "invoice.voided"})


class UnreadableError(Exception):
    """A webhook that does not have the form of its type. `why` is a sentence; no later attempt can help."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Received:
    """A webhook's envelope (facts: Webhooks). `content` is the object it is about."""

    webhook_type: str
    object_type: str
    organization_id: str | None
    content: Mapping[str, Any]

    @property
    def object_id(self) -> str | None:
        return _id(self.content, "external_id")


@dataclass(frozen=True, slots=True)
class Hint:
    """What to look at again: subscriptions and customers by external id, usage events by id with what Lago objects."""

    subscriptions: frozenset[str] = frozenset()
    customers: frozenset[str] = frozenset()
    events: Mapping[str, str] = field(default_factory=dict)


def read(body: bytes) -> Received:
    """The envelope of a body.

    :raises UnreadableError: it is none of Lago's.
    """
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("The body is not JSON.") from error
    if not isinstance(payload, dict):
        raise UnreadableError("The body is no JSON object.")
    names = [payload.get("webhook_type"), payload.get("object_type")]
    for name in names:
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise UnreadableError("The body needs webhook_type and object_type, of letters, digits, dot and _.")
    organization = payload.get("organization_id")
    content = payload.get(str(names[1]))
    return Received(
        webhook_type=str(names[0]),
        object_type=str(names[1]),
        organization_id=organization if isinstance(organization, str) else None,
        content=content if isinstance(content, dict) else {},
    )


def hint(received: Received) -> Hint | None:
    """What follows; None: nothing, as for types that are not known here.

    :raises UnreadableError: a known type without the id that it is about.
    """
    kind = received.webhook_type
    if kind in _SUBSCRIPTION | _ENDED_UNSTARTED:
        return Hint(subscriptions=frozenset({_needed(received.content, "external_id", kind)}))
    if kind in _CUSTOMER:
        return Hint(customers=frozenset({_needed(received.content, "external_id", kind)}))
    if kind in _INVOICE:
        customer = received.content.get("customer")
        return Hint(customers=frozenset({_needed(customer if isinstance(customer, dict) else {}, "external_id", kind)}))
    if kind == "events.errors":
        return Hint(events=_event_errors(received.content))
    return None


def _event_errors(content: Mapping[str, Any]) -> dict[str, str]:
    """Usage events by id with the names of what is wrong with them; the hourly report has nothing but ids."""
    found: dict[str, list[str]] = {}
    for problem, ids in sorted(content.items()):
        if not isinstance(ids, list) or _NAME.fullmatch(problem) is None:
            raise UnreadableError(f"events.errors has no list under {problem[:100]!r}.")
        for one in ids:
            if _is_id(one):
                found.setdefault(one, []).append(problem)
    return {one: ", ".join(problems) for one, problems in found.items()}


def _needed(content: Mapping[str, Any], name: str, kind: str) -> str:
    found = _id(content, name)
    if found is None:
        raise UnreadableError(f"{kind} has no {name}.")
    return found


def _id(content: Mapping[str, Any], name: str) -> str | None:
    value = content.get(name)
    return value if _is_id(value) else None


def _is_id(value: object) -> bool:
    """PostgreSQL keeps no NUL in text, and UTF-8 no half of a surrogate pair; no id of ours has either."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_ID:
        return False
    return "\x00" not in value and not any("\ud800" <= one <= "\udfff" for one in value)


def pause_after(attempts: int, chance: float) -> timedelta | None:
    """How long to wait after this many attempts failed, None: no more. `chance`, 0 to 1, is the jitter."""
    if attempts >= MOST_ATTEMPTS:
        return None
    pause_s = min(FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 16), LONGEST_PAUSE_S)
    return timedelta(seconds=pause_s * (0.75 + 0.25 * chance))
