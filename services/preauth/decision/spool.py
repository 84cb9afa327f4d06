"""Taps that the database could not take wait in a file of this process, and are written into the journal later.

One JSON line a tap, with what was told (they all passed). The lines survive the process; the tap's id makes writing
them twice harmless. The file is bounded: what does not fit any more is counted, and becomes a gap in the journal.
"""

import fcntl
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Final
from uuid import UUID

import msgspec

from shared.runtime.log import get_logger

log = get_logger(__name__)

SUFFIX: Final = ".taps"


class Spooled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tap that passed without a decision in the journal. Times are UTC."""

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


@dataclass(slots=True)
class Gap:
    """Taps that are in no journal."""

    first_at: datetime
    last_at: datetime
    taps: int = 0


class Spool:
    """The file of this process, and those that dead processes left behind, in one folder."""

    def __init__(self, folder: Path, *, name: str, max_bytes: int) -> None:
        self._folder, self._name, self._max_bytes = folder, name, max_bytes
        self._encoder = msgspec.json.Encoder()
        self._file: IO[bytes] | None = None
        self._size = 0
        self._read_until = 0
        self.gap: Gap | None = None

    def __len__(self) -> int:
        """Bytes that wait."""
        return self._size - self._read_until

    def add(self, spooled: Spooled) -> bool:
        """Append a tap; False where it did not fit or could not be written, and is counted as a gap instead."""
        line = self._encoder.encode(spooled) + b"\n"
        try:
            if self._size + len(line) <= self._max_bytes:
                self._open().write(line)
                self._size += len(line)
                return True
        except OSError as error:
            log.error("A tap could not be spooled.", action="spool.failed", error=repr(error))  # noqa: TRY400
        if self.gap is None:
            self.gap = Gap(spooled.received_at, spooled.received_at)
        self.gap.first_at = min(self.gap.first_at, spooled.received_at)
        self.gap.last_at = max(self.gap.last_at, spooled.received_at)
        self.gap.taps += 1
        return False

    def read(self, count: int) -> list[Spooled]:
        """The oldest taps that wait; they go on waiting until `forget`."""
        if self._file is None or not len(self):
            return []
        self._file.flush()
        with Path(self._file.name).open("rb") as reader:
            reader.seek(self._read_until)
            lines = [line for _, line in zip(range(count), reader, strict=False)]
        self._reading = sum(map(len, lines))
        return _decode(lines)

    def forget(self) -> None:
        """What was last read is in the journal."""
        self._read_until += self._reading
        self._reading = 0
        if self._read_until >= self._size and self._file is not None:
            self._file.truncate(0)
            self._size = self._read_until = 0

    def forget_gap(self, written: Gap) -> None:
        if self.gap is not None:
            self.gap.taps -= written.taps
            if self.gap.taps <= 0:
                self.gap = None

    def adopt(self) -> int:
        """Take over the taps of processes that are gone; returns how many."""
        adopted = 0
        if not self._folder.is_dir():
            return 0
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            if self._file is not None and path == Path(self._file.name):
                continue
            with path.open("rb") as left:
                try:
                    fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue  # its process lives
                taken = _decode(left.readlines())
                results = [self.add(spooled) for spooled in taken]
                if all(results):
                    path.unlink()
                adopted += len(taken)
        return adopted

    def close(self) -> None:
        """Release the file; what is in it is adopted by the next process."""
        if self._file is not None:
            empty = not len(self)
            path = Path(self._file.name)
            self._file.close()
            self._file = None
            if empty:
                path.unlink(missing_ok=True)

    def _open(self) -> IO[bytes]:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{self._name}{SUFFIX}"
            # Unbuffered: the line is with the kernel before the charger is answered, so killing the process loses none.
            self._file = path.open("ab", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._size, self._read_until = os.fstat(self._file.fileno()).st_size, 0
        return self._file

    _reading: int = 0


def _decode(lines: list[bytes]) -> list[Spooled]:
    found = []
    for line in lines:
        try:
            found.append(msgspec.json.decode(line, type=Spooled))
        except msgspec.DecodeError:
            # The last line of a process that was killed while it wrote it: that tap was not answered either.
            log.warning("A spooled line was cut off.", action="spool.cut_off", length=len(line))
    return found
