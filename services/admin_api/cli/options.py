"""What the commands have in common: options of the same name mean the same, and errors are told in three lines."""

import functools
import sys
from collections.abc import Callable
from typing import Annotated, ParamSpec

import typer

from services.admin_api.cli.errors import CliError

P = ParamSpec("P")

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="At most so many.")]
OfCard = Annotated[str | None, typer.Option("--card", help="Only of this card (idTag).")]
OfCharger = Annotated[str | None, typer.Option("--charger", help="Only at this charger (chargeBoxId).")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
TheCard = Annotated[str, typer.Argument(metavar="CARD", help="idTag.")]
TheCharger = Annotated[str, typer.Argument(metavar="CHARGER", help="chargeBoxId.")]


def reporting(command: Callable[P, int]) -> Callable[P, None]:
    """Ends the process with the command's exit code; an error in three lines: what, why, what to do."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
        except CliError as error:
            from services.admin_api.cli.show import printable  # noqa: PLC0415

            for text in (error.what, error.why, error.todo):
                sys.stderr.write(printable(text) + "\n")
            code = error.code
        raise typer.Exit(code)

    return run
