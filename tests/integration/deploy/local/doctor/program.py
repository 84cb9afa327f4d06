"""`expressync doctor` as a program, wherever a stack runs that it can look at."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.commands import command


@dataclass
class Run:
    """A finished doctor."""

    code: int
    output: str
    errors: str

    @property
    def answers(self) -> dict[str, str]:
        return {one["id"]: one["answer"] for one in json.loads(self.output)}

    def why(self, check: str) -> str:
        return next(str(one["why"]) for one in json.loads(self.output) if one["id"] == check)


async def doctor(folder: Path, environment: Mapping[str, str], *arguments: str) -> Run:
    process = await command("deploy.local.cli", "doctor", *arguments, cwd=folder, env=environment)
    output, errors = await process.communicate()
    return Run(process.returncode or 0, output.decode(), errors.decode())
