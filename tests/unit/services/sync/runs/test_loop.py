"""Work in turns: when the next one comes."""

import asyncio

from services.sync.runs.loop import Loop

LASTS_S = 0.03


async def turns(count: int, *, rest: float) -> list[tuple[float, float]]:
    """When each of so many turns began and ended."""
    found: list[tuple[float, float]] = []
    stop, time = asyncio.Event(), asyncio.get_running_loop().time

    async def job() -> None:
        began = time()
        await asyncio.sleep(LASTS_S)
        found.append((began, time()))
        if len(found) == count:
            stop.set()

    await Loop("test", job, 0.0, rest=rest).run(stop)
    return found


async def test_a_loop_that_rests_gives_way_for_a_multiple_of_its_turn() -> None:
    """However much there is of its work, most of the time is left to others."""
    for (began, ended), (again, _) in zip(found := await turns(3, rest=3.0), found[1:], strict=False):
        assert again - ended >= 2.9 * (ended - began)


async def test_a_loop_that_does_not_rest_goes_on_at_its_interval() -> None:
    """Without it, a long turn makes no long pause."""
    found = await turns(3, rest=0.0)
    assert found[-1][1] - found[0][0] < 5 * LASTS_S + 1.0
