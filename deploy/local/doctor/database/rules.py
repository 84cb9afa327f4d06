"""What is said about PostgreSQL. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from deploy.local.doctor.result import Result, follow, in_words, no, unknown, yes

REACHABLE: Final = "database.reachable"
AFTER: Final = ("database.rights", "database.roles", "database.migrations", "database.isolation")
WAYS: Final = {"url": "given by its URL", "wheel": "the private one"}


@dataclass(frozen=True, slots=True)
class Role:
    """A service's role: `problem` why one cannot sign in as it, `reads` the other services' tables it could read.

    `attempted` is False where its password is not known here; `given_in` names the setting that its address is from,
    where the launcher did not make it.
    """

    attempted: bool
    problem: str | None = None
    reads: tuple[str, ...] = ()
    given_in: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What was found; `problem` is PostgreSQL's own sentence, or the system's, when one could not sign in.

    `versions` and `heads` are migration revisions by service: those of the database and those of the code;
    `unknown` are the services whose database is at a revision that the code has never heard of; `role_of` is the role
    that each service signs in as.
    """

    way: str
    shown: str
    running: bool | None = None
    start: str = "expressync up"
    log: str = ""
    problem: str | None = None
    server_version: str = ""
    may_administer: bool = False
    schemas: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    role_of: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    access: Mapping[str, Role] = field(default_factory=dict)


def judge(found: Found) -> list[Result]:
    if found.running is False:
        return [
            no(REACHABLE, "The private PostgreSQL is not running.", f"Start it with `{found.start}`."),
            *follow(AFTER, "The private PostgreSQL is not running.", f"Start it with `{found.start}`."),
        ]
    if found.problem is not None:
        return [
            no(REACHABLE, f"PostgreSQL at {found.shown}: {found.problem}", _remedy(found, found.problem)),
            *follow(AFTER, "PostgreSQL cannot be asked.", "Repair the connection first."),
        ]
    where = f"{WAYS[found.way]}, at {found.shown}"
    return [
        yes(REACHABLE, f"PostgreSQL {found.server_version}, {where}."),
        _rights(found),
        _roles(found),
        _migrations(found),
        _isolation(found),
    ]


def _remedy(found: Found, problem: str) -> str:
    text = problem.lower()
    if "password authentication failed" in text or "no password supplied" in text:
        return "Correct the user and password in EXPRESSYNC_DATABASE_ADMIN_URL."
    if "does not exist" in text and "database" in text:
        return "Create that database, or correct its name in EXPRESSYNC_DATABASE_ADMIN_URL."
    if "pg_hba" in text:
        return "Allow this machine and user in PostgreSQL's pg_hba.conf."
    if found.way == "wheel":
        return f"Look into {found.log}, then restart with `expressync down --keep` and `{found.start}`."
    return "Start it, correct EXPRESSYNC_DATABASE_ADMIN_URL, or leave that out to use a private PostgreSQL."


def _rights(found: Found) -> Result:
    if found.may_administer:
        return yes("database.rights", "The administrator may create roles, and schemas in this database.")
    return no(
        "database.rights",
        "The user of EXPRESSYNC_DATABASE_ADMIN_URL may not create roles, or not create schemas in this database.",
        "Give it CREATEROLE and CREATE on the database, or name a user that has them.",
    )


def _roles(found: Found) -> Result:
    lacking = [f"schema {service}" for service in found.heads if service not in found.schemas]
    lacking += [f"role {role}" for role in found.role_of.values() if role not in found.roles]
    if lacking:
        why = f"There is no {in_words(lacking)} yet."
        return no("database.roles", why, "Run `expressync migrate`, or `expressync up`, which does it too.")
    refused = {service: role for service, role in found.access.items() if role.problem is not None}
    if refused:
        why = "; ".join(
            f"one cannot sign in as {found.role_of[service]} ({role.problem})" for service, role in refused.items()
        )
        given_in = [role.given_in for role in refused.values() if role.given_in is not None]
        remedy = "Run `expressync migrate`: it sets the passwords."
        if given_in:
            remedy = (
                f"Correct {in_words(given_in)}; where only the password differs, `expressync migrate` gives the role"
                " the one that stands there."
            )
        return no("database.roles", f"{why[0].upper()}{why[1:]}.", remedy)
    return yes("database.roles", f"{len(found.heads)} schemas and {len(found.heads)} roles are there.")


def _migrations(found: Found) -> Result:
    stale = []
    for service, heads in found.heads.items():
        has = found.versions.get(service, ())
        if sorted(has) != sorted(heads):
            at = f"at {in_words(has)}" if has else "empty"
            stale.append(f"{service} is {at}, and the code expects {in_words(heads)}")
    if not stale:
        revisions = ", ".join(f"{service} {in_words(heads)}" for service, heads in found.heads.items())
        return yes("database.migrations", f"They are at {revisions}.")
    remedy = "Run `expressync migrate`; a private database is migrated by `expressync up`."
    if found.unknown:
        remedy = "The database is newer than this program: run the newer release, or restore a backup."
    return no("database.migrations", f"{'; '.join(stale)}.", remedy)


def _isolation(found: Found) -> Result:
    open_ = [f"{name} can read {in_words(role.reads)}" for name, role in found.access.items() if role.reads]
    if open_:
        return no(
            "database.isolation",
            f"{'; '.join(open_)}.",
            "Revoke it (REVOKE ALL ON SCHEMA, NOSUPERUSER), then run `expressync migrate`.",
        )
    untold = [name for name, role in found.access.items() if not role.attempted or role.problem is not None]
    untold += [name for name in found.heads if name not in found.access]
    if untold:
        why = f"One could not sign in as the role of {in_words(untold)}."
        return unknown("database.isolation", why, "Run `expressync migrate`, then ask again.")
    return yes("database.isolation", "Each role was tried against every other schema.")


def last_words(error: str) -> str:
    """The telling part of a libpq message, which may have a line for each address that was tried."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    telling: Sequence[str] = [line for line in lines if "FATAL" in line or "refused" in line] or lines
    return telling[-1].rpartition("FATAL:")[2].strip().rstrip(".") + "." if telling else "it does not answer."
