"""The promise: whatever happens in whatever order, Lago counts each Wh once and for whom it was used, or it is held."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings

from deploy.demo.lago import LagoSettings
from deploy.demo.lago.settings import EventsStore
from shared.runtime.clock import utc_now
from tests.databases import Template
from tests.integration.services.sync.conftest import a_replica, a_world
from tests.integration.services.sync.invariant import books
from tests.integration.services.sync.invariant.history import KNOWN, Action, histories, lago_seed
from tests.integration.services.sync.invariant.machine import play
from tests.integration.services.sync.invariant.model import Policy

Test = Callable[..., None]
checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def known(test: Test) -> Test:
    """The histories that are told in full are played as well."""
    for name, steps in KNOWN.items():
        test = example(steps=steps).via(name)(test)
    return test


@pytest.mark.parametrize(("store", "policy"), [("postgres", "hold"), ("clickhouse", "bill_in_current_period")])
@settings(
    max_examples=4,
    # What fails is told as it is: looking for a shorter history plays hundreds of others first.
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    derandomize=True,
    suppress_health_check=checks,
)
@known
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
