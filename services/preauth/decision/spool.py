"""Taps that the database could not take wait in a file of this process, and are written into the journal later.

One JSON line a tap, from before its answer, which is to pass; where that came to be told otherwise, or late, one more
line says so, and counts. Until it is answered a tap is not read, so that it is written once, as it was told. The lines
survive the process; the tap's id makes writing them twice harmless. The file is bounded: what does not fit any more, or
cannot be read again, is counted, and becomes a gap in the journal. The gap has a small file beside it, which the next
process adopts as well.
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self
from uuid import UUID

import msgspec
from msgspec.structs import replace as other_than

from shared.contracts.events.preauth import Told
from shared.runtime.clock import uuid7
from shared.runtime.log import get_logger

log = get_logger(__name__)

SUFFIX: Final = ".taps"
GAP_SUFFIX: Final = ".gap"
# Written over in one piece, whatever the numbers in it.
GAP_BYTES: Final = 256
# Read in one piece: thousands of taps, and a moment of the loop's time.
MOST_READ: Final = 1024 * 1024
# Such a line is no tap of its own, however it was broken.
_AMENDS: Final = b'{"amends":true,'


class Spooled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tap without a decision in the journal, and what it was told. Times are UTC."""

    amends: bool = False
    tap_id: UUID
    received_at: datetime
    told_at: datetime
    duration_us: int
    charge_box_id: str
    id_tag: str
    kind: str
    via: str
    reason: str
    connector_id: int | None = None
    id_tag_as_sent: str | None = None
    sent_at: datetime | None = None
    message_id: str | None = None
    told: Told = "passed"
    in_time: bool = False


@dataclass(slots=True)
class Gap:
    """Taps that are in no journal. By its id it comes into the journal once, however often it is written."""

    first_at: datetime
    last_at: datetime
    taps: int = 0
    gap_id: UUID = field(default_factory=uuid7)


class _File:
    """Lines that wait, held by its open descriptor and a lock: what becomes of its name does not matter."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor
        self._read_until = 0

    @classmethod
    def create(cls, path: Path, how: int = os.O_APPEND) -> Self:
        """Under another name until it is locked: else somebody could adopt it in between."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unlocked = path.with_suffix(".new")
        descriptor = os.open(unlocked, os.O_RDWR | os.O_CREAT | how, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlocked.rename(path)
        except OSError:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    @classmethod
    def adopt(cls, path: Path) -> Self | None:
        """The file of a process that is gone; None where it lives, or where somebody else was faster."""
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        file = cls(path, descriptor)
        if file.deleted:
            file.close()
            return None
        return file

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    @property
    def waiting(self) -> int:
        """Bytes not forgotten yet."""
        return max(0, self.size - self._read_until)

    @property
    def written_at(self) -> datetime:
        return datetime.fromtimestamp(os.fstat(self._descriptor).st_mtime, UTC)

    @property
    def deleted(self) -> bool:
        return os.fstat(self._descriptor).st_nlink == 0

    def append(self, lines: bytes) -> None:
        """Unbuffered: what was added is with the kernel, so that killing the process loses none of it.

        :raises OSError: where it does not fit; then nothing was added.
        """
        size = self.size
        if os.write(self._descriptor, lines) < len(lines):
            # A disk that is nearly full takes a part; the next line would be glued to it.
            os.ftruncate(self._descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def overwrite(self, block: bytes) -> None:
        """Put this in the place of all that is there: a block of the same length, in one piece.

        :raises OSError: where it cannot be written.
        """
        os.pwrite(self._descriptor, block, 0)

    def peek(self, most: int) -> bytes:
        """The oldest bytes that wait."""
        return os.pread(self._descriptor, min(self.waiting, most), self._read_until)

    def forget(self, count: int) -> None:
        self._read_until += count
        if not self.waiting:
            os.ftruncate(self._descriptor, 0)
            self._read_until = 0

    def close(self, *, delete: bool = False) -> None:
        if delete and not self.deleted:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was last read: bytes of a file, and how many of its lines made no sense."""

    file: _File
    count: int
    broken: int


class Spool:
    """The file of this process, and those that dead processes left behind, in one folder."""

    def __init__(self, folder: Path, *, name: str, max_bytes: int) -> None:
        self._folder, self._name, self._max_bytes = folder, name, max_bytes
        self._encoder = msgspec.json.Encoder()
        self._own: _File | None = None
        self._left: list[_File] = []
        self._reading: _Reading | None = None
        # Taps in the own file that were not answered yet, and until when that is waited for.
        self._unanswered: dict[UUID, float] = {}
        self._gap: Gap | None = None
        self._gap_file: _File | None = None
        self._left_gaps: list[tuple[Gap, _File]] = []
        self.on_miss: Callable[[int], None] = lambda _: None
        self.problem: str | None = "the spool was not opened yet"

    def __len__(self) -> int:
        """Bytes that wait."""
        return sum(file.waiting for file in self._files())

    def prepare(self) -> None:
        """Make and lock the file of this process before it is needed: `problem` says why it cannot be used."""
        try:
            self._open()
        except OSError as error:
            problem = f"the spool cannot be used: {error}"
            if problem != self.problem:
                log.error("The spool cannot be used.", action="spool.unusable", error=repr(error))  # noqa: TRY400
            self.problem = problem
        else:
            self.problem = None

    def add(self, spooled: Spooled, *, open_for_s: float = 0.0) -> bool:
        """Append a tap; False where it did not fit or could not be written, and is counted as a gap instead.

        It is not read before it is `answered`, or so long is over.
        """
        if self._append(spooled):
            if open_for_s > 0:
                self._unanswered[spooled.tap_id] = time.monotonic() + open_for_s
            return True
        self.miss(spooled.received_at, 1)
        return False

    def answered(self, tap_id: UUID, otherwise: Spooled | None = None) -> None:
        """A tap was told what was added, or `otherwise`. Where that does not fit, the tap stays as it was added; as one
        does that was read before, and one that is in the gap.
        """
        if self._unanswered.pop(tap_id, None) is None or otherwise is None:
            return
        if not self._append(other_than(otherwise, amends=True)):
            log.error("What a tap was told could not be spooled.", action="spool.not_amended", told=otherwise.told)

    def _append(self, spooled: Spooled) -> bool:
        line = self._encoder.encode(spooled) + b"\n"
        try:
            own = self._open()
            if own.size + len(line) <= self._max_bytes:
                own.append(line)
                return True
        except OSError as error:
            log.error("A tap could not be spooled.", action="spool.failed", error=repr(error))  # noqa: TRY400
        return False

    def read(self, count: int) -> list[Spooled]:
        """The oldest taps that wait, of one file; they go on waiting until `forget`. None where none can be read.

        :raises OSError: when a file cannot be read.
        """
        self._reading = None
        file = next((one for one in self._files() if one.waiting), None)
        if file is None:
            return []
        lines = file.peek(MOST_READ).splitlines(keepends=True)
        if len(lines) > 1 and not lines[-1].endswith(b"\n") and sum(map(len, lines)) < file.waiting:
            lines.pop()  # Its end comes with the next piece.
        amended = {tap.tap_id: tap for line in lines if line.startswith(_AMENDS) and (tap := _decode(line))}
        taps: list[Spooled] = []
        size = broken = 0
        for line in lines[:count]:
            if not line.startswith(_AMENDS):
                tap = _decode(line)
                if tap is None:
                    broken += 1
                elif file is self._own and self._is_open(tap.tap_id):
                    break
                else:
                    # Told soon after it came, so not far from its line.
                    taps.append(other_than(amended.get(tap.tap_id, tap), amends=False))
            size += len(line)
        self._reading = _Reading(file, size, broken)
        return taps

    def _is_open(self, tap_id: UUID) -> bool:
        until = self._unanswered.get(tap_id)
        if until is None:
            return False
        if time.monotonic() < until:
            return True
        log.error("A spooled tap's answer was never told.", action="spool.never_told", tap_id=str(tap_id))
        del self._unanswered[tap_id]
        return False

    def forget(self) -> bool:
        """What was last read is in the journal, or a gap in it; False where nothing was read."""
        reading, self._reading = self._reading, None
        if reading is None or not reading.count:
            return False
        if reading.broken:
            log.error("Spooled lines made no sense.", action="spool.broken", lines=reading.broken)
            self.miss(reading.file.written_at, reading.broken)
        reading.file.forget(reading.count)
        if reading.file in self._left and not reading.file.waiting:
            self._left.remove(reading.file)
            reading.file.close(delete=True)
        return True

    def miss(self, at: datetime, taps: int) -> None:
        """Count taps that are in no journal."""
        gap = self._gap = self._gap or Gap(at, at)
        gap.first_at, gap.last_at = min(gap.first_at, at), max(gap.last_at, at)
        gap.taps += taps
        self._keep_gap()
        self.on_miss(taps)

    @property
    def gap(self) -> Gap | None:
        """What is to come into the journal next, as it is now."""
        gap = self._left_gaps[0][0] if self._left_gaps else self._gap
        return None if gap is None else replace(gap)

    def forget_gap(self, written: Gap) -> None:
        """The gap is in the journal; what was missed meanwhile is another one."""
        if self._left_gaps and self._left_gaps[0][0] == written:
            self._left_gaps.pop(0)[1].close(delete=True)
        elif self._gap is not None and self._gap.gap_id == written.gap_id:
            more = self._gap.taps - written.taps
            self._gap = Gap(self._gap.first_at, self._gap.last_at, more) if more > 0 else None
            self._keep_gap()

    def _keep_gap(self) -> None:
        """Bring the gap's file up to date: how much is missing outlives this process."""
        try:
            if self._gap is None:
                if self._gap_file is not None:
                    self._gap_file.close(delete=True)
                    self._gap_file = None
                return
            if self._gap_file is None:
                self._gap_file = _File.create(self._folder / f"{self._name}{GAP_SUFFIX}", how=0)
            self._gap_file.overwrite(self._encoder.encode(self._gap).ljust(GAP_BYTES))
        except OSError as error:
            log.error("A gap could not be kept in a file.", action="spool.gap_not_kept", error=repr(error))  # noqa: TRY400

    def adopt(self) -> int:
        """Take over the files of processes that are gone; returns how many.

        They are read where they lie: what is not in the journal when this process goes too is adopted again.

        :raises OSError: when the folder or a file cannot be opened; those before it are adopted.
        """
        adopted = 0
        held = {file.path for file in self._files()}
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            file = None if path in held else _File.adopt(path)
            if file is None:
                continue
            adopted += 1
            if file.waiting:
                self._left.append(file)
            else:
                file.close(delete=True)
        self._adopt_gaps()
        return adopted

    def _adopt_gaps(self) -> None:
        held = {file.path for _, file in self._left_gaps}
        if self._gap_file is not None:
            held.add(self._gap_file.path)
        for path in sorted(self._folder.glob(f"*{GAP_SUFFIX}")):
            file = None if path in held else _File.adopt(path)
            if file is None:
                continue
            # Counted when they were missed, by the process that is gone.
            if (gap := _decode_gap(file.peek(GAP_BYTES))) is not None:
                self._left_gaps.append((gap, file))
            else:
                file.close(delete=True)

    def close(self) -> None:
        """Release the files; what is in them is adopted by the next process."""
        for file in self._files():
            file.close(delete=not file.waiting)
        self._own, self._left = None, []
        for _, left in self._left_gaps:
            left.close()
        self._left_gaps = []
        if self._gap_file is not None:
            self._gap_file.close()
            self._gap_file = None

    def _files(self) -> list[_File]:
        return [*self._left, self._own] if self._own is not None else self._left.copy()

    def _open(self) -> _File:
        path = self._folder / f"{self._name}{SUFFIX}"
        if self._own is None:
            self._own = _File.create(path)
        elif self._own.deleted:
            # Somebody cleaned up: what waits is still readable here, but would not survive this process.
            log.error("The spool file was deleted.", action="spool.deleted", path=str(path))
            again = _File.create(path)
            try:
                again.append(self._own.peek(self._max_bytes))
            except OSError:
                again.close(delete=True)
                raise
            self._own.close()
            self._own, self._reading = again, None
        return self._own


def _decode(line: bytes) -> Spooled | None:
    try:
        return msgspec.json.decode(line, type=Spooled)
    except msgspec.DecodeError:
        # Cut off in a process that was killed while it wrote, or a disk that lost a part.
        return None


def _decode_gap(block: bytes) -> Gap | None:
    try:
        return msgspec.json.decode(block, type=Gap)
    except msgspec.DecodeError:
        return None
