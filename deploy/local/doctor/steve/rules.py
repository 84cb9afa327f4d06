"""What is said about SteVe (facts: SteVe, authentication and errors). Pure."""

from dataclasses import dataclass, field
from typing import Final, Literal

from deploy.local.doctor.result import Result, follow, no, unknown, yes
from deploy.local.doctor.upstream import Heard
from services.sync.steve.client import SteveVersion

Scheme = Literal["basic", "key"]
CHECKS: Final = ("steve.reachable", "steve.authorised", "steve.version")
NAMES: Final[dict[Scheme, str]] = {"basic": "HTTP Basic", "key": "STEVE-API-KEY"}
USER, PASSWORD, KEY, VERSION, URL = (
    f"EXPRESSYNC_SYNC_STEVE_{name}" for name in ("USER", "PASSWORD", "API_KEY", "VERSION", "URL")
)
LISTS: Final = SteveVersion((3, 11))
DETAILS: Final = SteveVersion((3, 12))


@dataclass(frozen=True, slots=True)
class Abilities:
    """What this SteVe can do; None where it cannot be seen, because nothing has charged lately or it did not say."""

    lists: bool | None = None
    operations: bool | None = None
    details: bool | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """`configured`: the call as sync makes it. `schemes`: each scheme alone, with the secret that is set for it or,
    where none is (`borrowed`), with the other's.
    """

    configured: Heard
    has: frozenset[Scheme] = frozenset()
    schemes: dict[Scheme, Heard] = field(default_factory=dict)
    borrowed: frozenset[Scheme] = frozenset()
    abilities: Abilities = Abilities()
    version: SteveVersion = DETAILS


def no_address(variable: str = URL) -> list[Result]:
    why, remedy = f"{variable} is not set, or is no http or https address.", f"Set {variable}."
    return [no(CHECKS[0], why, remedy), *follow(CHECKS[1:], "SteVe's address is not known.", remedy)]


def judge(found: Found) -> list[Result]:
    said = found.configured
    if not said.reachable:
        return [
            no(CHECKS[0], f"SteVe {said.explanation}.", _reach(said)),
            *follow(CHECKS[1:], "SteVe cannot be asked.", "Repair the connection first."),
        ]
    reachable = yes(CHECKS[0], "It answers.")
    if said.reason == "rate_limited":
        return [reachable, *follow(CHECKS[1:], f"SteVe {said.explanation}.", "Ask again in a moment.")]
    if not said.well:
        return [
            reachable,
            _refused(found),
            unknown(CHECKS[2], "SteVe does not let us in.", "Repair the credentials first."),
        ]
    return [reachable, yes(CHECKS[1], _scheme(found)), _version(found)]


def _reach(said: Heard) -> str:
    if said.reason == "server_error":
        return "Look into SteVe's log, and into that of a proxy before it."
    if "CERTIFICATE" in said.explanation.upper():
        return f"Let SteVe, or the proxy before it, show a certificate that is valid for the host in {URL}."
    return f"Start SteVe, correct {URL}, or open the way to it (firewall, proxy)."


def _scheme(found: Found) -> str:
    working = [NAMES[scheme] for scheme, said in found.schemes.items() if said.well and scheme in found.has]
    idle = [NAMES[scheme] for scheme, said in found.schemes.items() if not said.well and scheme in found.has]
    if working and idle:
        return f"{working[0]} works. {idle[0]} is set as well, and does not; it is not needed."
    return f"{' and '.join(working) or 'What is set'} {'work' if len(working) == 2 else 'works'}."


def _refused(found: Found) -> Result:
    said = found.configured
    other = next((scheme for scheme in found.schemes if found.schemes[scheme].well), None)
    sets = " and ".join(NAMES[scheme] for scheme in sorted(found.has)) or "No scheme"
    why = f"{sets} is set; SteVe {said.explanation}."
    if said.reason == "redirected":
        why = f"{sets} is set; SteVe {said.explanation}: it asks people to sign in, so it did not take our credentials."
    if other == "key" and other in found.borrowed:
        return no(
            CHECKS[1],
            f"{why} STEVE-API-KEY with the password works: this is SteVe 3.6 or 3.7.",
            f"Move the value of {PASSWORD} to {KEY}, empty {USER}, and set {VERSION} to its release.",
        )
    if other == "basic" and other in found.borrowed:
        return no(
            CHECKS[1],
            f"{why} HTTP Basic with the value of {KEY} works: this is SteVe 3.8 or later.",
            f"Move the value of {KEY} to {PASSWORD}, and set {VERSION} to its release.",
        )
    if other is not None:
        return no(
            CHECKS[1],
            f"{why} {NAMES[other]} alone works.",
            f"Empty {' and '.join((USER, PASSWORD) if other == 'key' else (KEY,))}.",
        )
    return no(CHECKS[1], why, _let_in(found))


def _let_in(found: Found) -> str:
    if found.configured.reason in {"not_json", "unexpected_form", "refused"}:
        return f"Correct {URL}: it is SteVe's address without /steve/api, and without a proxy's page before it."
    if found.configured.reason == "forbidden":
        return f"Give that user the right to use the API in SteVe, correct {USER}, or let the proxy before it pass."
    if found.has == {"key"}:
        return f"Correct {KEY} (SteVe 3.6 and 3.7); SteVe 3.8 and later takes {USER} and {PASSWORD} instead."
    if found.has == {"basic"}:
        return f"Correct {USER} and {PASSWORD} (SteVe 3.8 and later); SteVe 3.6 and 3.7 takes {KEY} instead."
    return f"Correct {USER} and {PASSWORD} (SteVe 3.8 and later) or {KEY} (SteVe 3.6 and 3.7)."


def _version(found: Found) -> Result:
    seen, said = found.abilities, f"{found.version[0]}.{found.version[1]}"
    can = {
        "lists of transactions": (seen.lists, LISTS),
        "operations": (seen.operations, LISTS),
        "a transaction's details": (seen.details, DETAILS),
    }
    cannot = [name for name, (able, since) in can.items() if able is False and found.version >= since]
    if cannot:
        return no(
            CHECKS[2],
            f"It is set to {said}, and this SteVe has no {' and no '.join(cannot)}.",
            f"Set {VERSION} to SteVe's release, as its web page shows it.",
        )
    has = [name for name, (able, _) in can.items() if able]
    more = [name for name in has if found.version < can[name][1]]
    dark = [name for name, (able, since) in can.items() if able is None and found.version >= since]
    if more:
        words = f"It has {' and '.join(more)}, which {said} has not: {VERSION} may be set higher."
    elif has:
        words = f"It is set to {said}; it has {', '.join(has)}."
    elif found.version < LISTS and not dark:
        words = f"It is set to {said}: it is asked one transaction at a time, and operates no charger."
    else:
        words = f"It is set to {said}."
    if dark:
        words += f" Not seen yet, as nothing has charged lately: {', '.join(dark)}."
    return yes(CHECKS[2], words)
