"""Whether what Lago has under an id is what we mean by it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from services.sync.lago.client import LagoClient
from services.sync.lago.models import StoredEvent
from services.sync.ledger.rules import kwh
from services.sync.ledger.store import Entry


@dataclass(frozen=True, slots=True)
class Verdict:
    """`same`: stored as meant, to the subscription, the code, the time and the value; at `stored_at`."""

    found: bool
    same: bool
    explanation: str = ""
    stored_at: datetime | None = None


def compare(one: Entry, stored: StoredEvent) -> Verdict:
    """What differs between an entry and what Lago stores under its id."""
    meant = {
        "subscription": one.external_subscription_id,
        "code": one.code,
        "timestamp": one.timestamp.isoformat(timespec="milliseconds"),
        one.property_name: Decimal(kwh(one.wh)),
    }
    there = {
        "subscription": stored.external_subscription_id,
        "code": stored.code,
        "timestamp": stored.timestamp.astimezone(one.timestamp.tzinfo).isoformat(timespec="milliseconds"),
        one.property_name: stored.number(one.property_name),
    }
    differing = [f"{name} {there[name]} instead of {meant[name]}" for name in meant if meant[name] != there[name]]
    if differing:
        return Verdict(True, False, f"Lago has {one.usage_event_id} with {', '.join(differing)}.")
    return Verdict(True, True, stored_at=stored.created_at)


class ReadBack:
    def __init__(self, lago: LagoClient) -> None:
        self._lago = lago

    async def compare(self, entries: Sequence[Entry]) -> dict[tuple[str, int, int], Verdict]:
        """A verdict for each entry. :raises UpstreamError: it cannot be told now."""
        verdicts: dict[tuple[str, int, int], Verdict] = {}
        groups: defaultdict[str, list[Entry]] = defaultdict(list)
        for one in entries:
            groups[one.external_subscription_id].append(one)
        for subscription, group in groups.items():
            stored = await self._window(subscription, group) if len(group) > 1 else {}
            for one in group:
                there = stored.get(one.usage_event_id) or await self._lago.stored_event(one.usage_event_id)
                if there is not None and not compare(one, there).same:
                    # The first match of that id is another one, of another subscription or, with ClickHouse, of another
                    # time; ours may stand behind it.
                    there = (await self._window(subscription, [one])).get(one.usage_event_id, there)
                verdicts[one.key] = (
                    compare(one, there)
                    if there is not None
                    else Verdict(False, False, f"Lago has no event {one.usage_event_id}, and says that it has.")
                )
        return verdicts

    async def _window(self, subscription: str, group: Sequence[Entry]) -> dict[str, StoredEvent]:
        """What Lago has of this subscription in the time these entries span, by id."""
        first, last = min(one.timestamp for one in group), max(one.timestamp for one in group)
        wanted = {one.usage_event_id for one in group}
        found: dict[str, StoredEvent] = {}
        page: int | None = 1
        while page is not None:
            # Lago compares microseconds that it cut to milliseconds when it answered.
            answer = await self._lago.stored_events(
                subscription, None, first, last + timedelta(milliseconds=1), page=page
            )
            found |= {one.transaction_id: one for one in answer.events if one.transaction_id in wanted}
            page = answer.meta.next_page if len(found) < len(wanted) else None
        return found
