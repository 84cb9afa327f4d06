"""Programs of ours as a shell starts them, with pipes, out of the nursery."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.nursery import Forked, nursery

LONGEST_S: Final = 60.0
# `expressync`, and the operators' part of it by itself.
OPERATORS: Final = "services.admin_api.cli"
# Of a service, its own main.
NEEDS: Final[Mapping[str, Sequence[str]]] = {
    OPERATORS: (OPERATORS,),
    "deploy.local.cli": (OPERATORS, "deploy.local.doctor"),
    "services.admin_api.bootstrap": ("services.admin_api.main",),
    **{name: (name,) for name in ("deploy.demo.chargers", "deploy.demo.lago", "deploy.demo.steve")},
}


class Command:
    """Looks like a process of asyncio's."""

    def __init__(
        self, forked: Forked, stdin: int, stdout: asyncio.StreamReader | None, stderr: asyncio.StreamReader
    ) -> None:
        """`stdout` is None where it goes elsewhere."""
        self._forked, self._stdin = forked, stdin
        self.stdout, self.stderr = stdout, stderr

    @property
    def returncode(self) -> int | None:
        return self._forked.code

    def send_signal(self, number: int) -> None:
        self._forked.signal(signal.Signals(number))

    async def communicate(self, given: bytes = b"") -> tuple[bytes, bytes]:
        """Tell it that and no more; what it says until it ends. It is gone then.

        :raises TimeoutError: when it does not end.
        """
        try:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._stdin, given)
            os.close(self._stdin)
            async with asyncio.timeout(LONGEST_S):
                out, err = await asyncio.gather(_rest(self.stdout), _rest(self.stderr))
            await asyncio.to_thread(self._forked.wait)
        except BaseException:
            self._forked.signal(signal.SIGKILL)
            raise
        return out, err


async def command(
    module: str, *arguments: str, env: Mapping[str, str], cwd: Path, stdout: int | None = None
) -> Command:
    """`python -m module arguments`, with that whole environment. `stdout`: a file, in place of a pipe."""
    stdin, to_stdin = os.pipe()
    out, into_out = os.pipe() if stdout is None else (None, stdout)
    err, into_err = os.pipe()
    try:
        forked = await asyncio.to_thread(
            lambda: nursery(module).fork(
                module,
                *arguments,
                env=env,
                cwd=cwd,
                files=[stdin, into_out, into_err],
                needs=NEEDS.get(module, (f"{module}.main",)),
            )
        )
    finally:
        for theirs in {stdin, into_out, into_err} - {stdout}:
            if theirs is not None:
                os.close(theirs)
    return Command(forked, to_stdin, None if out is None else await _reader(out), await _reader(err))


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    return reader


async def _rest(reader: asyncio.StreamReader | None) -> bytes:
    return await reader.read() if reader is not None else b""
