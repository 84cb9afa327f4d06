"""Output: tables on a terminal, one line an item with tabs when piped, JSON when asked for."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.admin_api.console import format as fmt

STYLES = {"ok": "green", "attention": "yellow", "wrong": "red", "unknown": "dim"}
MARKS = {"ok": "✓", "attention": "▲", "wrong": "✗", "unknown": "?"}
"""With the word beside them: colour is never alone."""


class Cell:
    """A value with a state, which colours it on a terminal."""

    def __init__(self, text: str, state: str = "") -> None:
        self.text, self.state = text, state


def printable(value: object) -> str:
    """As text on one line without control characters: what a charger sent must not steer the terminal."""
    if value is None:
        return ""
    text = value.text if isinstance(value, Cell) else str(value)
    return "".join(c if c.isprintable() else " " if c.isspace() else "�" for c in text)


def on_terminal() -> bool:
    return sys.stdout.isatty()


def as_json(value: Any, *, line: bool = False) -> None:  # noqa: ANN401 - any JSON
    sys.stdout.write(json.dumps(value, indent=None if line else 2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str, right: Sequence[str] = ()) -> None:
    """A table on a terminal; when piped, lines with tabs and no header."""
    if not on_terminal():
        for row in rows:
            plain(*row)
        return
    drawn = Table(box=None, header_style="dim", pad_edge=False)
    for column in columns:
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(_text(value) for value in row))
    if not drawn.row_count:
        say(empty)
        return
    Console().print(drawn)


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line."""
    if not on_terminal():
        for name, value in pairs:
            plain(name, value)
        return
    drawn = Table.grid(padding=(0, 2))
    for name, value in pairs:
        drawn.add_row(Text(name, style="dim"), _text(value))
    Console().print(drawn)


def plain(*values: object) -> None:
    """One line with tabs."""
    sys.stdout.write("\t".join(printable(value) for value in values) + "\n")
    sys.stdout.flush()


def raw(text: str) -> None:
    """As it is, for a file."""
    sys.stdout.write(text + "\n")


def say(sentence: str) -> None:
    """For the person, not for the pipe."""
    sys.stderr.write(printable(sentence) + "\n")


def line(value: Cell | str, *, bold: bool = False) -> None:
    """One line that wraps on a terminal."""
    text = _text(value)
    if bold:
        text.stylize("bold")
    Console().print(text)


def moment(at: str | None) -> str:
    """A time of the API: local on a terminal, as it came when piped."""
    if at is None or not on_terminal():
        return at or ""
    return f"{datetime.fromisoformat(at).astimezone():%Y-%m-%d %H:%M:%S}"


def kwh(wh: int | None) -> str:
    return "" if wh is None else fmt.kwh(wh)


def marked(state: str, word: str) -> Cell:
    return Cell(f"{MARKS.get(state, '·')} {word}", state)


def _text(value: object) -> Text:
    style = STYLES.get(value.state, "") if isinstance(value, Cell) else ""
    return Text(printable(value), style=style)
