"""The spool on a real folder: a full disk, files that vanish, and what dead processes left behind."""

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from services.preauth.decision.spool import MOST_READ, Gap, Spool, Spooled

MANY = 10_000
MAX_BYTES = 1024 * 1024


def a_tap(id_tag: str = "04A1") -> Spooled:
    at = datetime(2026, 5, 1, tzinfo=UTC)
    return Spooled(
        tap_id=uuid4(),
        received_at=at,
        told_at=at,
        duration_us=1,
        charge_box_id="CP",
        id_tag=id_tag,
        kind="authorize",
        via="hook",
        reason="database_away",
    )


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What a disk that fills up does: a write takes a part, and the next one nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        # The test's own log goes to a file as well.
        with capture_logs():
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    one = Spool(tmp_path, name="mine", max_bytes=MAX_BYTES)
    yield one
    one.close()


def drained(spool: Spool) -> list[str]:
    """Everything that can be read, as the replay takes it."""
    found = []
    while True:
        found += [tap.id_tag for tap in spool.read(2)]
        if not spool.forget():
            return found


def test_full_disk_costs_the_taps_that_do_not_fit_and_no_other(spool: Spool, tmp_path: Path) -> None:
    """A line of which only a part could be written is taken back and counted; the next one stands on its own."""
    assert spool.add(a_tap("FIRST"))
    size = len(spool)
    with files_of_at_most(size + 20):
        assert not spool.add(a_tap("LOST"))
    assert len(spool) == size == (tmp_path / "mine.taps").stat().st_size
    assert spool.add(a_tap("NEXT"))
    assert drained(spool) == ["FIRST", "NEXT"]
    assert spool.gap is not None
    assert spool.gap.taps == 1


def test_full_disk_before_anything_was_written_leaves_nothing_to_read(spool: Spool) -> None:
    """The replay comes to an end when there is nothing to read, however many taps were lost."""
    with files_of_at_most(0):
        assert not spool.add(a_tap())
        assert not spool.add(a_tap())
    assert drained(spool) == []
    assert spool.gap is not None
    assert spool.gap.taps == 2


def test_deleted_file_loses_nothing(spool: Spool, tmp_path: Path) -> None:
    """Somebody cleans the folder up: what waits is still read, and is put where the next process finds it."""
    spool.add(a_tap("FIRST"))
    (tmp_path / "mine.taps").unlink()
    assert [tap.id_tag for tap in spool.read(10)] == ["FIRST"]
    spool.add(a_tap("SECOND"))
    assert (tmp_path / "mine.taps").read_bytes().count(b"\n") == 2
    assert drained(spool) == ["FIRST", "SECOND"]


def test_deleted_file_on_a_full_disk_holds_no_files_open(spool: Spool, tmp_path: Path) -> None:
    """What waits cannot be put anywhere else, however often it is tried: it is still read, and nothing is left over."""
    spool.add(a_tap("FIRST"))
    (tmp_path / "mine.taps").unlink()
    held = []
    with files_of_at_most(20):
        for _ in range(3):
            spool.prepare()
            assert (spool.problem or "").startswith("the spool cannot be used: ")
            held.append(len(list(Path("/proc/self/fd").iterdir())))
    assert len(set(held)) == 1
    assert list(tmp_path.iterdir()) == []
    assert drained(spool) == ["FIRST"]


def test_line_that_was_cut_off_is_counted_once(spool: Spool, tmp_path: Path) -> None:
    """A process was killed while it wrote: its whole lines are read, the broken one is a gap when they are done."""
    dead = Spool(tmp_path, name="dead", max_bytes=MAX_BYTES)
    dead.add(a_tap("WHOLE"))
    path = tmp_path / "dead.taps"
    dead._files()[0].append(b'{"tap_id":"')
    _leave(dead)
    assert spool.adopt() == 1
    for _ in range(2):
        # Read again, because the database did not take it the first time.
        assert [tap.id_tag for tap in spool.read(10)] == ["WHOLE"]
        assert spool.gap is None
    assert spool.forget()
    assert spool.gap is not None
    assert spool.gap.taps == 1
    assert not path.exists()


def test_a_tap_is_read_once_it_is_answered(spool: Spool) -> None:
    """With what it was told, though that stands behind the taps that are read with it; later ones wait behind it. One
    that is never answered is read as it was added, and what is told of it afterwards changes nothing.
    """
    slow, next_one, gone = a_tap("SLOW"), a_tap("NEXT"), a_tap("GONE")
    spool.add(slow, open_for_s=60)
    spool.add(next_one, open_for_s=60)
    spool.add(gone, open_for_s=1e-9)
    spool.answered(next_one.tap_id)
    assert drained(spool) == []
    spool.answered(slow.tap_id, replace(slow, told="unknown"))
    assert [(tap.id_tag, tap.told) for tap in spool.read(1)] == [("SLOW", "unknown")]
    assert spool.forget()
    assert [(tap.id_tag, tap.told) for tap in spool.read(10)] == [("NEXT", "passed"), ("GONE", "passed")]
    assert spool.forget()
    spool.answered(gone.tap_id, replace(gone, told="unknown"))
    assert (len(spool), spool.gap) == (0, None)


def test_what_a_tap_was_told_is_no_tap_of_its_own(spool: Spool, tmp_path: Path) -> None:
    """A line that was to say so and is broken is missing in no journal; a tap that did not fit is in the gap alone."""
    dead = Spool(tmp_path, name="dead", max_bytes=MAX_BYTES)
    tap = a_tap()
    dead.add(tap, open_for_s=60)
    size = len(dead)
    dead.answered(tap.tap_id, replace(tap, told="unknown"))
    _leave(dead)
    path = tmp_path / "dead.taps"
    path.write_bytes(path.read_bytes()[: size + 40])
    assert spool.adopt() == 1
    assert [one.told for one in spool.read(10)] == ["passed"]
    assert spool.forget()
    assert spool.gap is None
    with files_of_at_most(0):
        assert not spool.add(tap, open_for_s=60)
    spool.answered(tap.tap_id, replace(tap, told="unknown"))
    assert len(spool) == 0
    assert spool.gap is not None
    assert spool.gap.taps == 1


def test_living_processes_keep_their_files(spool: Spool, tmp_path: Path) -> None:
    """A file is adopted only when its process is gone, by one process, and stays until it is read to its end."""
    other = Spool(tmp_path, name="other", max_bytes=MAX_BYTES)
    other.add(a_tap("ONE"))
    other.add(a_tap("TWO"))
    other.add(a_tap("THREE"))
    assert spool.adopt() == 0
    _leave(other)
    assert spool.adopt() == 1
    third = Spool(tmp_path, name="third", max_bytes=MAX_BYTES)
    assert third.adopt() == 0
    assert [tap.id_tag for tap in spool.read(2)] == ["ONE", "TWO"]
    assert spool.forget()
    assert (tmp_path / "other.taps").exists()
    assert drained(spool) == ["THREE"]
    assert not (tmp_path / "other.taps").exists()


def test_more_than_is_read_at_once(tmp_path: Path) -> None:
    """Lines that lie across the end of a piece come with the next one."""
    spool = Spool(tmp_path, name="mine", max_bytes=64 * 1024 * 1024)
    for n in range(MANY):
        spool.add(a_tap(f"{n}"))
    assert len(spool) > MOST_READ
    found: list[str] = []
    while taps := spool.read(MANY):
        found += [tap.id_tag for tap in taps]
        spool.forget()
    assert found == [f"{n}" for n in range(MANY)]
    assert spool.gap is None
    spool.close()
    assert not list(tmp_path.iterdir())


def _leave(spool: Spool) -> None:
    """Its process dies: the lock is gone, the file is not."""
    for file in spool._files():
        file.close()


def test_how_much_is_missing_outlives_the_process(tmp_path: Path) -> None:
    """What overflowed is counted at once, and the next process knows of it: how many, and between when; once."""
    at = datetime(2026, 5, 1, tzinfo=UTC)
    code = (
        "import os, sys, pathlib, datetime;"
        "from services.preauth.decision.spool import Spool;"
        "spool = Spool(pathlib.Path(sys.argv[1]), name='killed', max_bytes=1);"
        "at = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC);"
        "[spool.miss(at + datetime.timedelta(seconds=n), 1) for n in range(3)];"
        "os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    counted: list[int] = []
    spool = Spool(tmp_path, name="next", max_bytes=1)
    spool.on_miss = counted.append
    spool.adopt()
    spool.adopt()
    gap = spool.gap
    assert gap is not None
    assert gap == Gap(at, at + timedelta(seconds=2), 3, gap.gap_id)
    # The dead process had counted those.
    assert counted == []
    spool.miss(at, 2)
    assert counted == [2]
    spool.close()
    last = Spool(tmp_path, name="last", max_bytes=1)
    last.adopt()
    taps = []
    while (left := last.gap) is not None:
        taps.append(left.taps)
        last.forget_gap(left)
    assert sorted(taps) == [2, 3]
    assert list(tmp_path.glob("*.gap")) == []
    last.close()
