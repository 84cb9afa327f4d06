"""What a check says: yes, no, or that nobody could tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Answer = Literal["yes", "no", "unknown"]

# Each check by its id, as the statement that is true when all is well. The order is that of the report.
WHAT: Final[Mapping[str, str]] = {
    "settings.source": "It is known which installation to look at",
    "settings.names": "Every EXPRESSYNC_ variable is a setting",
    "settings.preauth": "preauth's settings are complete",
    "settings.sync": "sync's settings are complete",
    "settings.audit": "audit's settings are complete",
    "settings.admin_api": "admin_api's settings are complete",
    "settings.applied": "What runs was started with the present settings",
    "settings.spool": "Taps can be kept in a file while the database is away",
    "database.reachable": "PostgreSQL answers",
    "database.rights": "The administrator may create roles and schemas",
    "database.roles": "Each service has its schema and its role",
    "database.migrations": "The schemas are current",
    "database.isolation": "No service can read another's schema",
    "broker.reachable": "RabbitMQ answers",
    "broker.credentials": "RabbitMQ accepts our credentials",
    "broker.topology": "The exchanges and queues exist",
    "broker.parked": "No message is parked",
    "services.preauth": "preauth is ready",
    "services.sync": "sync is ready",
    "services.audit": "audit is ready",
    "services.admin_api": "admin_api is ready",
    "steve.reachable": "SteVe answers",
    "steve.authorised": "SteVe accepts our credentials",
    "steve.version": "SteVe can do what its configured release promises",
    "lago.reachable": "Lago answers",
    "lago.authorised": "Lago accepts our API key",
    "lago.metric": "Lago's metric sums up what is sent",
    "lago.charge": "A plan charges for the metric",
    "lago.webhook_key": "Lago's webhooks can be verified",
    "hook.keys": "The hook's keys are strong",
    "presence.qr": "A photo of a QR code logs nobody in",
    "clock.steve": "SteVe's clock agrees with this machine's",
    "clock.lago": "Lago's clock agrees with this machine's",
    "clock.database": "The database's clock agrees with this machine's",
}


@dataclass(frozen=True, slots=True)
class Result:
    """One check's outcome. `why` is a sentence; `remedy` says what to do, and is None where nothing is to be done."""

    id: str
    answer: Answer
    why: str
    remedy: str | None = None

    @property
    def what(self) -> str:
        return WHAT[self.id]

    def as_json(self) -> dict[str, str | None]:
        return {"id": self.id, "answer": self.answer, "what": self.what, "why": self.why, "remedy": self.remedy}


def yes(check: str, why: str) -> Result:
    return Result(check, "yes", why)


def no(check: str, why: str, remedy: str) -> Result:
    return Result(check, "no", why, remedy)


def unknown(check: str, why: str, remedy: str) -> Result:
    return Result(check, "unknown", why, remedy)


def follow(checks: Sequence[str], why: str, remedy: str) -> list[Result]:
    """What cannot be told because something before it is wrong."""
    return [unknown(check, why, remedy) for check in checks]


def exit_code(results: Sequence[Result]) -> int:
    """0 all is fine, 1 something is wrong or cannot be told, 3 nothing could be told at all."""
    answers = {result.answer for result in results}
    if answers <= {"yes"}:
        return 0
    return 3 if answers == {"unknown"} else 1


def in_words(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
