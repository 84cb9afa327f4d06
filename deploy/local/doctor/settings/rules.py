"""What is said about the settings. Names of variables only, never a value: it may be a secret. Pure."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from deploy.local.doctor.result import Result, in_words, no, unknown, yes

# Of the launcher, the operators' commands and the tests; none is a service's.
OTHERS: Final = frozenset(
    f"EXPRESSYNC_{name}"
    for name in ("HOME", "URL", "TOKEN", "CONTRACTS", "CHROMIUM", "REQUIRE_BROWSER", "REQUIRE_DOCKER")
)
_OURS: Final = "EXPRESSYNC_"
_TESTS: Final = "EXPRESSYNC_TEST_"


def source(
    *, kind: str, env_file: str | None, from_environment: bool, running: bool, unreadable: Sequence[int] = ()
) -> Result:
    """Which installation is looked at; `unreadable` are the numbers of lines that are left out."""
    state = "runs" if running else "does not run"
    if kind == "demo":
        return yes("settings.source", "There is no .env; the demo that runs here is looked at.")
    if unreadable:
        lines = in_words([str(number) for number in unreadable])
        why = f"{env_file}, line {lines}, cannot be read and is left out."
        return no("settings.source", why, "Write NAME=value; put a value with spaces or quotes into quotes.")
    if env_file is not None:
        return yes("settings.source", f"They come from {env_file} and the environment; the stack {state} here.")
    if from_environment:
        return yes("settings.source", f"There is no .env; they come from the environment. The stack {state} here.")
    return no(
        "settings.source",
        "There is no .env, no setting in the environment, and no stack runs here.",
        "Copy .env.example to .env and fill it in, or try `expressync demo`, which needs no settings.",
    )


def service(name: str, problems: Sequence[str], given: Mapping[str, str]) -> Result:
    """Whether a service would start with its settings; `problems` are sentences that begin with the variable."""
    check = f"settings.{name}"
    if not problems:
        return yes(check, "All required settings are there, and none is wrong.")
    why = "; ".join(without_value(problem, given) for problem in problems)
    return no(check, f"{why}.", "Correct it in .env or in the environment; .env.example explains each setting.")


def without_value(problem: str, given: Mapping[str, str]) -> str:
    """The problem without the value of any setting that it might repeat."""
    for name, value in given.items():
        # A quoted value is one wherever it stands; a bare one only beside its own variable, else it is just a word.
        problem = problem.replace(repr(value), "the value")
        if name in problem:
            problem = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "the value", problem)
    return problem


def names(given: Collection[str], known: Collection[str], checked: Sequence[str]) -> Result:
    """Variables that begin like ours and are nobody's. Those under a service's own prefix are told there."""
    prefixes = tuple(f"EXPRESSYNC_{service.upper()}_" for service in checked)
    strangers = []
    for name in sorted(given):
        ours = name.startswith(_OURS) and not name.startswith((_TESTS, *prefixes))
        if ours and name not in known and name not in OTHERS:
            # Compared without what all of them begin with, which would make anything look alike.
            near = difflib.get_close_matches(name.removeprefix(_OURS), [one.removeprefix(_OURS) for one in known], n=1)
            strangers.append(f"{name} is not a setting" + (f"; did you mean {_OURS}{near[0]}?" if near else ""))
    if not strangers:
        return yes("settings.names", "None is misspelt.")
    return no(
        "settings.names", ". ".join(strangers) + ("" if strangers[-1].endswith("?") else "."), "Correct its name."
    )


def spool(folder: str, *, usable: bool) -> Result:
    """Whether preauth can have a file of its own in its spool folder."""
    if usable:
        return yes("settings.spool", f"{folder} is a folder that can be written, or made.")
    return no(
        "settings.spool",
        f"{folder} is no folder that can be written, or made: taps that come while the database is away would be lost.",
        "Set EXPRESSYNC_PREAUTH_SPOOL_DIR to one on a local disk.",
    )


def applied(now: Mapping[str, Mapping[str, str]], started_with: Mapping[str, Mapping[str, str]]) -> Result:
    """Whether the services that run have the settings as they are now; both by service and variable."""
    if not started_with:
        return unknown("settings.applied", "No service runs here.", "Start the stack with `expressync up`.")
    changed = {
        variable
        for service, values in started_with.items()
        for variable in now[service].keys() | values.keys()
        if now[service].get(variable) != values.get(variable)
    }
    if not changed:
        return yes("settings.applied", "The services were started with the settings as they are now.")
    return no(
        "settings.applied",
        f"The services were started with other values of {in_words(sorted(changed))}.",
        "Restart them: `expressync down --keep`, then `expressync up`.",
    )
