"""The audit log: one entry an event, its filters in the address."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from services.admin_api.console import format as fmt
from services.admin_api.console import paths
from services.admin_api.console.view import events
from services.admin_api.console.view.state import Chip, Pager, State

ACTORS = {
    "operator": "Operator",
    "api_token": "API token",
    "driver": "Driver",
    "kiosk": "Kiosk",
    "charger": "Charger",
    "system": "ExpresSync",
    "upstream": "Upstream",
}
_PERIODS = (("1h", "Last hour"), ("24h", "24 hours"), ("7d", "7 days"), ("", "All"))
_ENVELOPE = {"before", "after", "personal", "personal_fields", "change_id"}


@dataclass(frozen=True, slots=True)
class Change:
    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One recorded event. `raw` is the CloudEvent as it was received; without it, what is known is shown."""

    event_id: str
    type: str
    subject: str
    time: datetime
    actor_kind: str
    actor_id: str
    source: str
    data: Mapping[str, object] = field(default_factory=dict)
    raw: Mapping[str, object] | None = None

    @property
    def title(self) -> str:
        return events.title(self.type)

    @property
    def state(self) -> State:
        return events.state(self.type)

    @property
    def actor(self) -> str:
        who = ACTORS.get(self.actor_kind, fmt.sentence(fmt.words(self.actor_kind)))
        return f"{who} {self.actor_id}" if self.actor_id else who

    @property
    def service(self) -> str:
        return self.source.rpartition("/")[2]

    @property
    def subject_kind(self) -> str:
        return self.subject.partition("/")[0]

    @property
    def subject_key(self) -> str:
        return self.subject.partition("/")[2] or self.subject

    @property
    def changes(self) -> tuple[Change, ...]:
        """What changed, field by field, in the order of the event."""
        before, after = self.data.get("before"), self.data.get("after")
        old = before if isinstance(before, Mapping) else {}
        new = after if isinstance(after, Mapping) else {}
        return tuple(
            Change(fmt.label(str(name)), fmt.value(old.get(name)), fmt.value(new.get(name)))
            for name in dict.fromkeys([*old, *new])
        )

    @property
    def personal(self) -> tuple[str, ...]:
        """Fields whose values the owner keeps to itself, so that they can be erased."""
        names = self.data.get("personal_fields") or self.data.get("personal")
        return tuple(fmt.words(str(name)) for name in names) if isinstance(names, (list, tuple)) else ()

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """The rest of the event's data, field by field."""
        told = (fmt.field(name, item) for name, item in self.data.items() if name not in _ENVELOPE)
        return tuple((fmt.sentence(label), text) for label, text in told)

    @property
    def cloud_event(self) -> str:
        known: Mapping[str, object] = {
            "specversion": "1.0",
            "id": self.event_id,
            "type": self.type,
            "source": self.source,
            "subject": self.subject,
            "time": fmt.iso(self.time),
            "actorkind": self.actor_kind,
            "actorid": self.actor_id,
            "data": self.data,
        }
        return fmt.pretty_json(self.raw if self.raw is not None else known)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Exactly what stands in the address. Times are UTC, as `2026-05-01T09:30`."""

    type: str = ""
    subject: str = ""
    actor_kind: str = ""
    actor_id: str = ""
    within: str = ""
    since: str = ""
    until: str = ""

    @property
    def is_set(self) -> bool:
        return any(self.query().values())

    @property
    def is_narrowed(self) -> bool:
        """By more than a period, so that the form should be seen."""
        return any(text for name, text in self.query().items() if name != "within")

    def query(self) -> dict[str, str]:
        return {
            "type": self.type,
            "subject": self.subject,
            "actor_kind": self.actor_kind,
            "actor_id": self.actor_id,
            "within": self.within,
            "since": self.since,
            "until": self.until,
        }

    @property
    def periods(self) -> tuple[Chip, ...]:
        """A period chosen by a chip replaces the exact times."""
        bounded = bool(self.since or self.until)
        plain = self.query() | {"since": "", "until": ""}
        return tuple(
            Chip(word, paths.address(paths.AUDIT, plain | {"within": code}), on=self.within == code and not bounded)
            for code, word in _PERIODS
        )


@dataclass(frozen=True, slots=True)
class AuditLog:
    """`entries` is None when audit did not answer. `problem` names a filter that could not be read."""

    entries: tuple[Entry, ...] | None
    filter: AuditFilter = AuditFilter()
    pager: Pager | None = None
    problem: str = ""

    @property
    def types(self) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
        """All event types by kind, as (type, words), for the filter; an unknown one in the address is kept."""
        groups = [
            (word, tuple((name, words) for name, (words, kind, _) in events.EVENTS.items() if kind == key))
            for key, word in events.KIND_WORDS.items()
        ]
        if self.filter.type and self.filter.type not in events.EVENTS:
            groups.append(("Other", ((self.filter.type, events.title(self.filter.type)),)))
        return tuple(groups)

    @property
    def actors(self) -> tuple[tuple[str, str], ...]:
        return tuple(ACTORS.items())
