"""What a run knows of its sessions."""

from datetime import UTC, datetime
from uuid import UUID

from services.sync.runs.run import Run

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def a_run() -> Run:
    return Run(UUID(int=1), "schedule", "sync", (), NOW, 0, NOW)


def test_each_session_is_seen_once_and_counted_when_its_outcome_is_final() -> None:
    """However often it was read; what is still open, or in hand, is looked at again."""
    run = a_run()
    run.see([3, 1, 2])
    run.read([2, 4], done=2, left=7)
    assert (list(run.seen), run.done, run.expected) == ([1, 2, 3, 4], 2, 9)
    run.decide([1, 2, 3, 4], {1: "billed", 2: "open", 3: "held"})
    assert (run.totals, list(run.undecided)) == ({"billed": 1, "held": 1}, [2, 4])
    run.see([1])
    assert list(run.undecided) == [2, 4]


def test_the_undecided_are_looked_at_in_turn() -> None:
    """None twice before all others were, also while more come in."""
    run = a_run()
    run.see(range(1, 6))
    looked_at = []
    for _ in range(3):
        some = run.some_undecided(2)
        looked_at += some
        run.decide(some, {})
    assert looked_at == [1, 2, 3, 4, 5]
    run.see([6])
    assert run.some_undecided(2) == [6]
    run.decide([6], {6: "billed"})
    assert run.some_undecided(2) == [1, 2]
