"""How results look: a table for people, lines for pipes, JSON for programs."""

import json
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.local.doctor.result import Answer, Result

MARKS: Final[dict[Answer, tuple[str, str]]] = {
    "yes": ("✓ yes", "green"),
    "no": ("✗ no", "red"),
    "unknown": ("? unknown", "dim"),
}


def verdict(results: Sequence[Result]) -> str:
    """One sentence, before the evidence."""
    wrong = [one for one in results if one.answer == "no"]
    dark = [one for one in results if one.answer == "unknown"]
    if not wrong and not dark:
        return f"All {len(results)} checks are fine."
    parts = []
    if wrong:
        parts.append("one check found something" if len(wrong) == 1 else f"{len(wrong)} checks found something")
    if dark:
        parts.append("one could not tell" if len(dark) == 1 else f"{len(dark)} could not tell")
    fine = len(results) - len(wrong) - len(dark)
    said = f"{' and '.join(parts)}; {fine} of {len(results)} are fine."
    return f"{said[0].upper()}{said[1:]}"


def show(results: Sequence[Result], console: Console, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([one.as_json() for one in results], indent=1, ensure_ascii=False))
    elif console.is_terminal:
        console.print(Text(verdict(results), style="bold"))
        console.print(_table(results))
    else:
        for one in results:
            print("\t".join([one.answer, one.id, one.what, one.why, one.remedy or ""]))
        print(verdict(results))


def _table(results: Sequence[Result]) -> Table:
    table = Table("", "check", "found, and what to do", show_lines=False, pad_edge=False)
    table.columns[0].no_wrap = True
    table.columns[1].max_width = 36
    room = remedy = None
    for one in results:
        words, colour = MARKS[one.answer]
        if room != one.id.partition(".")[0]:
            table.add_section()
            room, remedy = one.id.partition(".")[0], None
        # Text and not markup: what servers say may hold brackets.
        found = Text(one.why, style="dim" if one.answer == "unknown" else "")
        # What follows from the line above has the same remedy, and need not repeat it.
        if one.remedy is not None and one.remedy != remedy:
            found.append(f"\n{one.remedy}", style="bold" if one.answer == "no" else "dim")
        remedy = one.remedy
        table.add_row(Text(words, style=colour), Text(one.what), found)
    return table
