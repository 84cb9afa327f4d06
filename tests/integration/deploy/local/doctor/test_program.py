"""`expressync doctor` where nothing runs. `tests/e2e` has it beside a stack and beside a demo."""

import asyncio
import json
import os
from pathlib import Path

from deploy.local.doctor.result import WHAT
from tests.integration.deploy.local.doctor.program import doctor


def alone(folder: Path) -> dict[str, str]:
    """An environment with a private home, and with nothing of this process's own."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "EXPRESSYNC_HOME": str(folder / "home")}


def is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


async def test_nothing_set_up_is_a_finding_with_a_way_to_begin(tmp_path: Path) -> None:
    """On a machine where nothing was done yet, the first line says how to begin, and nothing is made."""
    run = await doctor(tmp_path, alone(tmp_path), "--json")
    assert run.code == 1
    first = json.loads(run.output)[0]
    assert (first["id"], first["answer"]) == ("settings.source", "no")
    assert "Copy .env.example to .env" in first["remedy"]
    assert [set(one) for one in json.loads(run.output)] == [{"id", "answer", "what", "why", "remedy"}] * len(WHAT)
    assert is_empty(tmp_path)


async def test_what_cannot_be_asked_about_ends_with_3(tmp_path: Path) -> None:
    """A settings file that is not there is an error in three lines, or one object, and no finding."""
    named = ("--env-file", "nowhere.env")
    run, as_json = await asyncio.gather(
        doctor(tmp_path, alone(tmp_path), *named), doctor(tmp_path, alone(tmp_path), *named, "--json")
    )
    assert run.code == 3
    assert run.errors.splitlines()[0] == "There is no nowhere.env."
    assert len(run.errors.splitlines()) == 3
    assert as_json.code == 3
    assert set(json.loads(as_json.output)) == {"error", "why", "remedy"}
