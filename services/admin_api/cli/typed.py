"""What people type, as the API takes it."""

import json
import sys
from pathlib import Path
from typing import Any

import typer

from services.admin_api.cli import show
from services.admin_api.cli.errors import USAGE, CliError


def parameters(given: list[str], *, asked: bool) -> dict[str, Any]:
    """`NAME=text`, `NAME:=JSON` and `NAME=@FILE`, as an object. :raises CliError: one is none of them.

    A secret comes from a file, or with `@-` from stdin: other people of a machine can read its command lines.

    :param asked: a question follows, whose answer a pipe that was read to its end does not hold.
    """
    read: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        try:
            if not name.endswith(":") and value.startswith("@"):
                value = _content(value.removeprefix("@"), asked=asked)
            read[name.removesuffix(":")] = json.loads(value) if name.endswith(":") else value
        except ValueError:
            equals = ""
        if not equals or not name.removesuffix(":"):
            raise CliError(
                f"{each!r} is no parameter.",
                "It has to look like resetType=Soft, or with a number or JSON like connectorId:=1.",
                "Name it as SteVe's form of the operation does.",
                code=USAGE,
            )
    return read


def _content(file: str, *, asked: bool) -> str:
    """Without the line break at its end. :raises CliError: it cannot be read."""
    if file == "-" and asked and not sys.stdin.isatty():
        raise CliError(
            "Nobody could answer the question whether to do it.",
            "The value is read from stdin, to its end.",
            "Add --yes, or give the value in a file. Nothing was done.",
            code=USAGE,
        )
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CliError(
            f"{file!r} cannot be read.",
            f"{type(error).__name__}: after an @ stands the file that the value is in.",
            'A value that itself begins with an @ is written as JSON: NAME:="@...".',
            code=USAGE,
        ) from error
    return text.removesuffix("\n").removesuffix("\r")


def asks(*, yes: bool) -> bool:
    """Whether `sure` would ask."""
    return show.on_terminal() and not yes


def sure(consequences: list[str], question: str, *, yes: bool) -> None:
    """On a terminal: what will happen, then the question. Piped, the command itself is the decision."""
    if not asks(yes=yes):
        return
    for each in consequences:
        show.say(each)
    typer.confirm(question, abort=True, err=True)


def one_of(what: str, *given: bool) -> None:
    """:raises CliError: unless exactly one of them is given."""
    if list(given).count(True) != 1:
        raise CliError(f"Give {what}.", "Exactly one of them says what is meant.", "Nothing was changed.", code=USAGE)
