"""Rules of the house that imports do not show."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = sorted(path for room in ("services", "deploy") for path in (ROOT / room).rglob("rules.py"))
# `datetime` and `uuid` are imported for their types; these of their functions ask the machine.
ASKING = {"now", "utcnow", "today", "uuid1", "uuid4", "uuid7", "open", "input", "print", "getenv"}


def asked(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=name) | ast.Attribute(attr=name) if name in ASKING:
                    yield f"{name} in line {node.lineno}"


@pytest.mark.parametrize("path", RULES, ids=lambda path: str(path.relative_to(ROOT).parent))
def test_rules_are_told_the_time_and_new_ids(path: Path) -> None:
    """A rule gives the same answer to the same values: it asks no clock, no chance and no file."""
    assert list(asked(path.read_text())) == []


def test_what_asks_is_found() -> None:
    """The rule above sees a method and a plain call."""
    assert list(asked("a = datetime.now(UTC)\nb = uuid4()")) == ["now in line 1", "uuid4 in line 2"]
