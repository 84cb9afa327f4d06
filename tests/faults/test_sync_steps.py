"""Sync is killed at each step of its work: the next one goes on, Lago counts each Wh once, and what is held is held."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.processes import prepare
from tests.faults.proxy import DOWN, UP, Direction
from tests.faults.steps import STEPS
from tests.faults.story import Story

# Where one is held by default: before the commit or before its answer, whichever leaves more to be found out.
WORST = dict.fromkeys(STEPS, DOWN) | dict.fromkeys(("mark", "repeat", "read_back", "refuse", "correct", "heed"), UP)
EACH = tuple((step,) for step in STEPS)
# A process's lives, and at which steps it is at once when it is killed: one that stops the others comes last.
LIVES = (
    ("count", "run"),
    ("hear", "observe"),
    ("heed", "hold"),
    ("ignore", "retry", "release", "mark"),
    ("claim",),
    ("repeat",),
    ("read_back",),
    ("correct",),
    ("begin",),
    ("end",),
)
BESIDE = ("hold", "release", "correct", "post", "mark")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("lives", "at"),
    [
        pytest.param(LIVES, WORST, id="lives"),
        pytest.param(EACH, dict.fromkeys(STEPS, UP), id="before each commit", marks=pytest.mark.full),
        pytest.param(EACH, dict.fromkeys(STEPS, DOWN), id="before each answer", marks=pytest.mark.full),
    ],
)
async def test_sync_is_killed_at_each_step(
    story: Story, lives: Sequence[Sequence[str]], at: dict[str, Direction]
) -> None:
    """Whether what it said arrived and the answer was lost, or never arrived: the next process goes on from there, each
    Wh is counted and told once, and what cannot be billed is in the queue.
    """
    (sync,) = story.replicas
    for steps in lives:
        async with contextlib.AsyncExitStack() as reached:
            for step in steps:
                await reached.enter_async_context(STEPS[step](story, at[step]))
            await sync.kill()
            await story.time_passes()
            await sync.start()
            await sync.ready()
        await story.ends_well()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("steps", "hold"),
    [
        pytest.param(BESIDE, UP, id="some"),
        pytest.param(tuple(STEPS), UP, id="before each commit", marks=pytest.mark.full),
        pytest.param(tuple(STEPS), DOWN, id="before each answer", marks=pytest.mark.full),
    ],
)
async def test_the_other_replica_goes_on(story: Story, tmp_path: Path, steps: Sequence[str], hold: Direction) -> None:
    """Two replicas run, and one dies at a step: the other one finishes what that one had begun, once."""
    folder = tmp_path / "other"
    folder.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        second = await prepare(
            "sync",
            database=story.world.database,
            amqp_url=story.world.rabbitmq.url,
            folder=folder,
            http=story.world.sync.http,
            stack=stack,
            more=story.billing.settings,
        )
        await second.start()
        story.replicas.append(second)
        stack.callback(story.replicas.remove, second)
        for step in steps:
            async with STEPS[step](story, hold) as victim:
                # The one that died before may still be coming up.
                await asyncio.gather(*(one.ready() for one in story.replicas if one is not victim))
                await victim.kill()
                await story.time_passes()
            await story.ends_well()
            await victim.start()
