"""What is said about the four services. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from deploy.local.doctor.result import Result, no, unknown, yes


@dataclass(frozen=True, slots=True)
class Found:
    """A service. `ours`: the launcher here keeps it up. `checks`: what /readyz says, or None without an answer, and
    `notes`: what is worth a look.

    `other` names the installation that this address belongs to, where it is not the one that is looked at.
    """

    launcher: bool
    ours: bool
    address: str
    start: str
    log: str
    checks: Mapping[str, str] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    other: str | None = None


def judge(service: str, found: Found) -> Result:
    check = f"services.{service}"
    if found.other is not None:
        why = f"It is not running: at {found.address} answers the {found.other} stack's."
        return no(check, why, f"Start it with `{found.start}`.")
    if found.checks is None and not found.ours and found.launcher:
        return no(check, "It is not running, and its launcher is.", f"Read {found.log}.")
    if found.checks is None and not found.ours:
        return no(check, f"It is not running: nothing answers at {found.address}.", f"Start it with `{found.start}`.")
    if found.checks is None:
        why = f"It runs, and does not answer at {found.address} ({found.problem})."
        return unknown(check, why, f"Wait a moment and ask again; else read {found.log}.")
    return _of_what_it_says(check, found.address, found.checks, found.notes)


def _of_what_it_says(check: str, address: str, checks: Mapping[str, str], notes: Mapping[str, str]) -> Result:
    lacks = {name: why for name, why in checks.items() if why != "ok"}
    if lacks:
        why = f"It runs, and lacks something: {_listed(lacks)}."
        return no(check, why, "Repair what it lacks; it goes on by itself then.")
    if notes:
        why = f"It works, with less than it is set up for: {_listed(notes)}."
        return no(check, why, "See to that, and start it anew.")
    return yes(check, f"It has all it needs, says {address}.")


def _listed(said: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in said.items())
