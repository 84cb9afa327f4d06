"""Who waits for whom, before anybody asks the database."""

import asyncio
import gc

import pytest

from services.preauth.pairing.turns import NoTurn, Turns


async def use(turns: Turns, *names: str, done: list[str], until: asyncio.Event) -> None:
    async with turns.of(*names):
        done.append(" ".join(names))
        await until.wait()


async def test_one_at_a_time_for_each_name_and_in_their_order() -> None:
    """Others wait, also one that was given up by its caller; another name does not, and nothing is left over."""
    turns, done, over = Turns(wait_s=10), list[str](), asyncio.Event()
    names = (("A", "1"), ("A", "2"), ("B", "2"), ("B", "1"))
    callers = [asyncio.create_task(use(turns, *each, done=done, until=over)) for each in names]
    await asyncio.sleep(0.01)
    assert done == ["A 1", "B 2"]
    callers[1].cancel()
    await asyncio.sleep(0.01)
    assert done == ["A 1", "B 2"]
    over.set()
    await asyncio.gather(*callers, return_exceptions=True)
    assert done == ["A 1", "B 2", "B 1"]
    del callers
    await asyncio.create_task(use(turns, "C", done=done, until=over))
    gc.collect()
    assert not turns._by_name


async def test_nobody_waits_for_ever() -> None:
    """Whose turn does not come in time is told so, and takes with it what it had a turn of."""
    turns, done, over = Turns(wait_s=0.05), list[str](), asyncio.Event()
    first = asyncio.create_task(use(turns, "1", done=done, until=over))
    await asyncio.sleep(0)
    with pytest.raises(NoTurn):
        await asyncio.wait_for(use(turns, "A", "1", done=done, until=over), 2)
    over.set()
    await use(turns, "A", done=done, until=over)
    await first
    assert done == ["1", "A"]
