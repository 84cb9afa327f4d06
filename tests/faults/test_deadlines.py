"""The deadlines that preauth comes with: faults are as good as without them, and a healthy database still decides."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from services.preauth.settings import PreauthSettings
from tests.faults.conftest import Worlds
from tests.faults.taps import HEALTHY_ENOUGH, Answer, check_answers
from tests.faults.world import World, do, new_world
from tests.infra import Infra

FIELDS: Final = PreauthSettings.model_fields
DEFAULTS: Final = {
    f"EXPRESSYNC_PREAUTH_{name.upper()}": str(FIELDS[name].default) for name in ("decide_within_ms", "answer_within_ms")
}
ANSWER_S: Final = FIELDS["answer_within_ms"].default / 1000
# Answers that the database gave, and not its deadline.
DECIDED: Final = "nothing_armed"


@pytest.fixture
async def strict(worlds: Worlds, breakable: Infra, tmp_path: Path) -> AsyncIterator[World]:
    """Preauth and audit with the deadlines that are the default, where other worlds have the longest legal ones."""
    await worlds.leave()
    async with new_world(breakable, tmp_path, ("audit", "preauth"), more=DEFAULTS) as world:
        await world.restore()
        yield world


async def test_the_default_deadlines_hold_under_faults(strict: World) -> None:
    """Database and broker fall silent under load and come back: taps are let through in time, and all are journalled.

    While all is well the database decides them, within a deadline a third of the other worlds'.
    """
    healthy = await strict.taps.many(100)
    await do(strict.postgres.freeze, strict.rabbitmq.freeze)
    silent = await strict.taps.many(100)
    await do(strict.postgres.thaw, strict.rabbitmq.thaw)
    coming_back = await strict.taps.during(strict.preauth.ready(for_s=2))
    await strict.audit.ready()
    afterwards = await strict.taps.many(100)
    await strict.settled()
    check_answers([*silent, *coming_back], healthy, afterwards)
    assert sorted(answer.seconds for answer in silent)[len(silent) // 2] < ANSWER_S
    assert await decided(strict, healthy) >= HEALTHY_ENOUGH
    assert await decided(strict, afterwards) >= HEALTHY_ENOUGH
    await strict.check_journal([*healthy, *silent, *coming_back, *afterwards])


async def decided(world: World, answers: list[Answer]) -> float:
    """The share of these taps that the database decided in time: 0 to 1."""
    cards = [answer.id_tag for answer in answers]
    rows = await world.evidence.rows("SELECT reason FROM preauth.tap WHERE id_tag = ANY(%s)", cards)
    return [row["reason"] for row in rows].count(DECIDED) / len(answers)
