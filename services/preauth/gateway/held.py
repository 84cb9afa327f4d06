"""What a charger sent behind a tap."""

from collections import deque
from typing import Final

from websockets.frames import Opcode

# Frames and bytes that may wait behind a tap before the charger is not read any more.
MOST_FRAMES: Final = 64
MOST_BYTES: Final = 256 * 1024

Frame = tuple[Opcode, bytes | bytearray]


class Held:
    """Waits in its order until the tap is decided. `size` is in bytes."""

    __slots__ = ("_frames", "size")

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self.size = 0

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, opcode: Opcode, data: bytes | bytearray) -> None:
        self._frames.append((opcode, data))
        self.size += len(data)

    def take(self) -> Frame:
        opcode, data = self._frames.popleft()
        self.size -= len(data)
        return opcode, data

    @property
    def full(self) -> bool:
        return len(self._frames) > MOST_FRAMES or self.size > MOST_BYTES

    @property
    def roomy(self) -> bool:
        return len(self._frames) <= MOST_FRAMES // 2 and self.size <= MOST_BYTES // 2
