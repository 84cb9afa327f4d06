"""A tap looks rows up; it never reads the journal."""

import asyncio

from tests.integration.services.preauth.world import Preauth

TAPS = 1_500
AT_ONCE = 50
# Rows of the journal that one group of taps may touch: its own, what it repeats, and some slack. The journal has many
# times as many.
MOST_ROWS = 200

READ = """
    SELECT COALESCE(sum(idx_tup_read), 0)::int AS rows
    FROM pg_stat_user_indexes WHERE schemaname = 'preauth_journal'
"""


async def reads(preauth: Preauth) -> int:
    """Rows of the journal read through an index so far; the server publishes it with a second's delay."""
    await asyncio.sleep(2.5)
    return int(preauth.rows(READ)[0]["rows"])


async def test_a_tap_reads_no_more_of_a_journal_that_grew_than_of_an_empty_one(preauth: Preauth) -> None:
    """The statement was planned when the journal was empty, and a plan of then would read all of it for each tap."""
    for first in range(0, TAPS, AT_ONCE):
        await asyncio.gather(*(preauth.tap(f"04{n:06X}", f"CP-{n}") for n in range(first, first + AT_ONCE)))
    # The sweeper for answers that were never recorded passes over every row once.
    await preauth.until("SELECT 1 FROM sweep WHERE swept_until > (SELECT max(received_at) FROM tap)", within_s=30)
    before = await reads(preauth)
    await preauth.tap("04FFFFFF", "CP-7")
    assert await reads(preauth) - before < MOST_ROWS
    assert preauth.rows("SELECT count(*)::int AS taps FROM tap")[0]["taps"] == TAPS + 1
