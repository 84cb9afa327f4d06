"""The command line as its users have it: a process with a terminal or a pipe, an environment and an exit code."""

import asyncio
import json
import os
import pty
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.commands import OPERATORS, Command, command
from tests.integration.services.admin_api.support import House

ROOT = Path(__file__).parents[4]
_LONGEST_S = 30


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever the command wrote
        return json.loads(self.out)

    @property
    def lines(self) -> list[list[str]]:
        """What a pipe gets, by lines and tabs."""
        return [line.split("\t") for line in self.out.splitlines()]


class Cli:
    """Runs the commands with a config folder of their own."""

    def __init__(self, house: House, folder: Path, token: str | None) -> None:
        self.house, self.folder = house, folder
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "EXPRESSYNC_URL": house.url,
            "PYTHONWARNINGS": "error",
            "PYTHONPATH": str(ROOT),
        }
        if token:
            self.env["EXPRESSYNC_TOKEN"] = token

    async def start(self, *arguments: str, stdout: int | None = None) -> Command:
        return await command(OPERATORS, *arguments, env=self.env, cwd=self.folder, stdout=stdout)

    async def start_anew(self, *arguments: str) -> asyncio.subprocess.Process:
        """The same with an interpreter of its own, which takes half a second."""
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", OPERATORS, *arguments,
            stdin=pipe, stdout=pipe, stderr=pipe, env=self.env, cwd=self.folder,
        )  # fmt: skip

    async def __call__(self, *arguments: str, stdin: str = "") -> Ended:
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), _LONGEST_S)
        return Ended(process.returncode or 0, out.decode(), err.decode())

    async def on_terminal(self, *arguments: str, stdin: str = "") -> Ended:
        """The same where stdout is a terminal, of 200 columns."""
        ours, theirs = pty.openpty()
        self.env |= {"COLUMNS": "200", "TERM": "xterm-256color"}
        process = await self.start(*arguments, stdout=theirs)
        os.close(theirs)
        reading = asyncio.create_task(asyncio.to_thread(_read_all, ours))
        _, err = await asyncio.wait_for(process.communicate(stdin.encode()), _LONGEST_S)
        return Ended(process.returncode or 0, await reading, err.decode())


def _read_all(descriptor: int) -> str:
    """What a terminal was written, until its other end is closed (which Linux reports as an error)."""
    read = b""
    try:
        while chunk := os.read(descriptor, 65536):
            read += chunk
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return read.decode()


def three_lines(ended: Ended) -> list[str]:
    """What, why and what to do, and nothing on stdout."""
    lines = ended.err.splitlines()
    assert len(lines) == 3, ended.err
    assert ended.out == ""
    return lines
