"""All checks at once, each with a deadline of its own, so that none can hold up the others."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from deploy.local.doctor.broker import ask as broker
from deploy.local.doctor.clock import ask as clocks
from deploy.local.doctor.database import ask as database
from deploy.local.doctor.hook import ask as hook
from deploy.local.doctor.lago import ask as lago
from deploy.local.doctor.presence import ask as presence
from deploy.local.doctor.result import WHAT, Result, unknown
from deploy.local.doctor.services import ask as services
from deploy.local.doctor.settings import ask as settings
from deploy.local.doctor.steve import ask as steve
from deploy.local.doctor.target import Target
from shared.runtime.clock import Clock, utc_now

MASK: Final = "***"
DEADLINE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Check:
    """A question with several answers: `ids` are those it always gives. `deadline_s` bounds it as a whole."""

    ids: tuple[str, ...]
    ask: Callable[[], Awaitable[list[Result]]]
    deadline_s: float = DEADLINE_S


async def run(check: Check) -> list[Result]:
    """The check's results; whatever happens, one for each of its ids."""
    try:
        async with asyncio.timeout(check.deadline_s):
            return await check.ask()
    except TimeoutError:
        why = f"There was no answer within {check.deadline_s:g} s."
        return [unknown(name, why, "Find out what hangs, then ask again.") for name in check.ids]
    except Exception as error:  # noqa: BLE001 - one check that fails must not take the others' answers along
        why = f"The check itself failed: {type(error).__name__}."
        return [unknown(name, why, "Report it, with this sentence.") for name in check.ids]


def checks(target: Target, clock: Clock) -> list[Check]:
    """All that ask something outside this process."""

    def of(room: str) -> tuple[str, ...]:
        return tuple(name for name in WHAT if name.startswith(f"{room}.") and name != "lago.webhook_key")

    found = [
        Check(of("database"), lambda: database.check(target)),
        Check(of("broker"), lambda: broker.check(target)),
        Check(of("services"), lambda: services.check(target), deadline_s=8.0),
        Check(of("steve"), lambda: steve.check(target)),
        Check(of("lago"), lambda: lago.check(target)),
    ]
    asks = {
        "clock.steve": clocks.check_steve(target, clock),
        "clock.lago": clocks.check_lago(target, clock),
        "clock.database": clocks.check_database(target, clock),
    }
    for name, ask in asks.items():
        found.append(Check((name,), _clock(name, ask, target), deadline_s=8.0))
    return found


def _clock(name: str, ask: clocks.Ask, target: Target) -> Callable[[], Awaitable[list[Result]]]:
    return lambda: clocks.check(name, ask, target)


async def examine(target: Target, *, clock: Clock = utc_now) -> list[Result]:
    """Every check of `WHAT`, in its order. Changes nothing and starts nothing."""
    results = [*settings.check(target), *hook.check(target), *presence.check(target), *lago.check_webhooks(target)]
    for several in await asyncio.gather(*map(run, checks(target, clock))):
        results += several
    order = list(WHAT)
    secrets = target.secrets()
    return [without(secrets, one) for one in sorted(results, key=lambda one: order.index(one.id))]


def without(secrets: Sequence[str] | set[str], result: Result) -> Result:
    """The result with any secret masked. None should be there: this is the second line."""
    why, remedy = result.why, result.remedy
    for secret in sorted(secrets, key=len, reverse=True):
        why = why.replace(secret, MASK)
        remedy = remedy.replace(secret, MASK) if remedy is not None else None
    return replace(result, why=why, remedy=remedy)
