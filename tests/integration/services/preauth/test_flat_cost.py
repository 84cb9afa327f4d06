"""A tap looks rows up; it never reads the journal."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from services.preauth.decision import store
from services.preauth.decision.tap import Tap
from shared.contracts.requests.preauth import ArmPairing, CancelPairing, SearchTaps
from tests.integration.services.preauth.world import Preauth

TAPS = 800
AT_ONCE = 50
# Rows of the journal that one group of taps may touch: its own, what it repeats, and some slack. The journal has many
# times as many.
MOST_ROWS = 200
TIMES = 3

READ = """
    SELECT COALESCE(sum(idx_tup_read), 0)::int AS rows
    FROM pg_stat_user_indexes WHERE schemaname = 'preauth_journal'
"""


ALL_READ = """
    SELECT (SELECT COALESCE(sum(idx_tup_read), 0) FROM pg_stat_user_indexes WHERE schemaname = 'preauth_journal')::int
        + (SELECT COALESCE(sum(seq_tup_read), 0) FROM pg_stat_user_tables WHERE schemaname = 'preauth_journal')::int
        AS rows
"""


async def reads(preauth: Preauth, *, scans_too: bool = False) -> int:
    """Rows of the journal read so far, through an index or in any way; the server publishes it a second later."""
    await asyncio.sleep(2.5)
    return int(preauth.rows(ALL_READ if scans_too else READ)[0]["rows"])


async def fewest_read(
    preauth: Preauth, act: Callable[[], Awaitable[None]], *, enough: int, scans_too: bool = False
) -> int:
    """Rows of the journal that `act` had read. What the sweeper read while it was busy, the server publishes up to ten
    seconds late, so in one of these it may be counted, too; the others tell.
    """
    found: list[int] = []
    while len(found) < TIMES and min(found, default=enough) >= enough:
        before = await reads(preauth, scans_too=scans_too)
        await act()
        found.append(await reads(preauth, scans_too=scans_too) - before)
    return min(found)


async def test_a_tap_reads_no_more_of_a_journal_that_grew_than_of_an_empty_one(preauth: Preauth) -> None:
    """The statement was planned when the journal was empty, and a plan of then would read all of it for each tap."""
    for first in range(0, TAPS, AT_ONCE):
        await asyncio.gather(*(preauth.tap(f"04{n:06X}", f"CP-{n}") for n in range(first, first + AT_ONCE)))
    # The sweeper for answers that were never recorded passes over every row once.
    await preauth.until("SELECT 1 FROM sweep WHERE swept_until > (SELECT max(received_at) FROM tap)", within_s=30)
    assert preauth.rows("SELECT count(*)::int AS taps FROM tap")[0]["taps"] == TAPS

    # Another each time: a repeat would be answered from memory.
    cards = (f"04FFFF{n:02X}" for n in itertools.count())

    async def tap() -> None:
        await preauth.tap(next(cards), "CP-7")

    assert await fewest_read(preauth, tap, enough=MOST_ROWS) < MOST_ROWS


PLAIN = """
    INSERT INTO tap (received_at, tap_id, charge_box_id, id_tag, kind, via, reason, told)
    SELECT now() - make_interval(hours => n::int), gen_random_uuid(), 'CP', 'C' || n, 'authorize', 'hook',
        'nothing_armed', 'passed'
    FROM generate_series(1, 9600) AS n
"""
KEPT = 9600
SEARCHES = 12


RARE: list[tuple[dict[str, Any], int]] = [
    ({"reason": "cancelled"}, 1),
    ({"told": "blocked"}, 1),
    ({"told": "unknown"}, 1),
    ({"reason": "database_away"}, 0),
]


async def test_a_search_for_what_is_rare_does_not_walk_the_journal(preauth: Preauth) -> None:
    """Of 400 days of plain taps, a search by reason or for the blocked or unclear ones reads only what it shows."""
    for months in range(14):
        async with preauth.service.database.write() as tx:
            at = preauth.clock() - timedelta(days=30 * months)
            await store.keep_partitions(tx, now=at, ahead=0, keep_days=36500)
    preauth.run(PLAIN)
    armed = await preauth.done(ArmPairing(charge_box_id="CP-1", purpose="find_card"))
    await preauth.done(CancelPairing(pairing_id=armed["pairing_id"]))
    assert await preauth.tap("04A1", "CP-1") is None
    await preauth.done(ArmPairing(charge_box_id="CP-2", purpose="find_card"))
    assert await preauth.tap("04A2", "CP-2") == "BLOCKED"
    decider = preauth.taps.decider
    gone = Tap("04A3", "CP-3", "authorize", "hook", time.monotonic())
    decider.told(await decider.decide(gone), "unknown")
    await preauth.until("SELECT 1 FROM tap WHERE told IN ('blocked', 'unknown') HAVING count(*) = 2")
    preauth.run("VACUUM ANALYZE preauth.tap")
    # The sweeper passes over every row once.
    await preauth.until("SELECT 1 FROM sweep WHERE swept_until > now() - interval '1 minute'", within_s=30)

    async def search() -> None:
        for wanted, taps in RARE:
            for _ in range(SEARCHES):
                assert len((await preauth.done(SearchTaps(**wanted)))["taps"]) == taps

    # All of them together less than the journal once.
    assert await fewest_read(preauth, search, enough=KEPT, scans_too=True) < KEPT
