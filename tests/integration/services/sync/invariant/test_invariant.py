"""The promise: whatever happens in whatever order, Lago counts each Wh once and for whom it was used, or it is held."""

from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Final

import pytest
from _pytest.mark.structures import ParameterSet
from hypothesis import HealthCheck, Phase, given, settings

from deploy.demo.lago import LagoSettings
from deploy.demo.lago.settings import EventsStore
from shared.runtime.clock import utc_now
from tests.databases import Template
from tests.integration.services.sync.conftest import a_replica, a_world
from tests.integration.services.sync.invariant import books
from tests.integration.services.sync.invariant.history import KNOWN, Action, histories, lago_seed
from tests.integration.services.sync.invariant.machine import play
from tests.integration.services.sync.invariant.model import Policy

checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


# Each history that is told in full is played on one of these each time, and on both at length.
VARIANTS: Final[Sequence[tuple[EventsStore, Policy]]] = (("postgres", "hold"), ("clickhouse", "bill_in_current_period"))


def _known() -> Iterator[ParameterSet]:
    for number, name in enumerate(KNOWN):
        for place, (store, policy) in enumerate(VARIANTS):
            marks = [] if place == number % len(VARIANTS) else [pytest.mark.full]
            yield pytest.param(store, policy, KNOWN[name], id=f"{store}: {name}", marks=marks)


@pytest.mark.parametrize(("store", "policy", "steps"), list(_known()))
async def test_each_wh_is_counted_once_in_a_history_that_is_known(
    template: Template, store: EventsStore, policy: Policy, steps: list[Action]
) -> None:
    """What once went wrong, or takes many things in their order."""
    await prove(template, store, policy, steps)


@pytest.mark.parametrize(("store", "policy"), VARIANTS)
@settings(
    max_examples=3,
    # What fails is told as it is: looking for a shorter history plays hundreds of others first.
    phases=[Phase.generate],
    deadline=None,
    derandomize=True,
    suppress_health_check=checks,
)
@given(steps=histories)
async def test_each_wh_is_counted_once_or_held(
    template: Template, store: EventsStore, policy: Policy, steps: list[Action]
) -> None:
    """For any history, faults, crashes and two replicas: Lago counted what was used, for whom it was used, and what it
    does not count is held by its name.
    """
    await prove(template, store, policy, steps)


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("policy", ["hold", "bill_in_current_period"])
@pytest.mark.parametrize("store", ["postgres", "clickhouse"])
@settings(max_examples=150, deadline=None, suppress_health_check=checks)
@given(steps=histories)
async def test_each_wh_is_counted_once_in_any_history(
    template: Template, store: EventsStore, policy: Policy, steps: list[Action]
) -> None:
    """The same, for hundreds of histories that are new each time."""
    await prove(template, store, policy, steps)


async def prove(template: Template, store: EventsStore, policy: Policy, steps: Sequence[Action]) -> None:
    seed = lago_seed(utc_now())
    lago = LagoSettings(seed=seed, events_store=store)
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(
            a_world(
                template,
                lago=lago,
                late_policy=policy,
                incremental_kwh=1,
                # A slow Lago does what it was asked after nobody waits for its answer any more.
                lago_timeout_s=0.7,
                lago_webhook_key=lago.webhook_hmac_key,
            )
        )
        _, second = await a_replica(stack, world.settings, world.clock)
        began = datetime.fromisoformat(seed["subscriptions"][0]["started_at"])
        played = await play(world, [world.rooms, second], policy, began, steps)
        await books.check(world, played.model)
