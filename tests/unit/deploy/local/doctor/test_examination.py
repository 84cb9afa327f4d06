import asyncio
import json
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from deploy.local.doctor.examination import Check, checks, run, without
from deploy.local.doctor.result import WHAT, Answer, Result, exit_code, in_words, no, unknown, yes
from deploy.local.doctor.show import show, verdict
from deploy.local.doctor.target import Target
from deploy.local.home import Home
from shared.runtime.clock import utc_now


async def test_a_check_that_hangs_is_unknown_at_its_deadline() -> None:
    """A deadline of its own ends each check, and each of its questions is answered with unknown."""

    async def hang() -> list[Result]:
        await asyncio.Event().wait()
        return []

    started = time.monotonic()
    found = await run(Check(("steve.reachable", "steve.authorised"), hang, deadline_s=0.05))
    assert time.monotonic() - started < 5
    assert [(one.id, one.answer) for one in found] == [("steve.reachable", "unknown"), ("steve.authorised", "unknown")]


async def test_a_check_that_breaks_is_unknown_and_tells_no_details() -> None:
    """A fault of the doctor's own is named by its class, since its text may hold anything."""

    async def break_() -> list[Result]:
        raise RuntimeError("postgresql://x:hunter2@h")

    (found,) = await run(Check(("steve.reachable",), break_))
    assert found.answer == "unknown"
    assert "RuntimeError" in found.why
    assert "hunter2" not in found.why


def test_every_question_is_asked_once(tmp_path: Path) -> None:
    """The checks and the settings together answer each id of the catalogue exactly once."""
    asked = [name for check in checks(Target(Home(tmp_path, "live"), None, {}), utc_now) for name in check.ids]
    alone = [
        name for name in WHAT if name.startswith(("settings.", "hook.", "presence.")) or name == "lago.webhook_key"
    ]
    assert sorted(asked + alone) == sorted(WHAT)


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        (["yes", "yes"], 0),
        ([], 0),
        (["yes", "no"], 1),
        (["yes", "unknown"], 1),
        (["no", "unknown"], 1),
        (["unknown", "unknown"], 3),
    ],
)
def test_the_exit_code_tells_fine_found_and_could_not_ask(answers: list[Answer], code: int) -> None:
    """0 is only for all fine, 3 only where nothing could be told."""
    assert exit_code([Result("steve.reachable", answer, "why") for answer in answers]) == code


def test_secrets_are_masked_in_all_that_is_said() -> None:
    """A known secret is taken out of reason and remedy, the longer one first."""
    found = without({"hunter2", "hunter22"}, no("steve.reachable", "x hunter22 y", "not hunter2"))
    assert (found.why, found.remedy) == ("x *** y", "not ***")


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([yes("hook.keys", "")], "All 1 checks are fine."),
        ([no("hook.keys", "", ""), yes("hook.keys", "")], "One check found something; 1 of 2 are fine."),
        (
            [no("hook.keys", "", "")] * 2 + [unknown("hook.keys", "", "")],
            "2 checks found something and one could not tell; 0 of 3 are fine.",
        ),
        ([unknown("hook.keys", "", "")], "One could not tell; 0 of 1 are fine."),
    ],
)
def test_the_verdict_is_one_sentence(results: list[Result], said: str) -> None:
    """The report has a sentence that says how things stand."""
    assert verdict(results) == said


def test_a_pipe_gets_a_line_for_each_check(capsys: pytest.CaptureFixture[str]) -> None:
    """Piped, a check is one line of tab-separated fields; with --json, an object of the documented form."""
    results = [no("hook.keys", "It is [weak].", "Make one."), yes("steve.reachable", "It answers.")]
    show(results, Console(file=StringIO()), as_json=False)
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.split("\t") == ["no", "hook.keys", WHAT["hook.keys"], "It is [weak].", "Make one."]
    assert second.split("\t")[4] == ""
    show(results, Console(file=StringIO()), as_json=True)
    assert json.loads(capsys.readouterr().out)[0] == {
        "id": "hook.keys",
        "answer": "no",
        "what": WHAT["hook.keys"],
        "why": "It is [weak].",
        "remedy": "Make one.",
    }


def test_a_terminal_gets_a_table_with_words_beside_the_colours() -> None:
    """On a terminal the verdict comes first, brackets stay brackets, and a state is a word and not only a colour."""
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    show([no("hook.keys", "It is [weak].", "Make one."), yes("clock.lago", "They agree.")], console, as_json=False)
    text = screen.getvalue()
    assert text.startswith("One check found something")
    assert "✗ no" in text
    assert "✓ yes" in text
    assert "It is [weak]." in text
    assert "Make one." in text


def test_names_are_joined_as_in_a_sentence() -> None:
    """One, two and three names read as a person would write them."""
    assert [in_words(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
