"""`expressync`: the commands that act on this machine, beside those that ask the operators' API."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from deploy.local.infra.errors import InfraError

app = typer.Typer(
    name="expressync",
    help="Did this tap charge, did it bill, and if not, why not? Beside SteVe and Lago.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
parked = typer.Typer(help="Messages that could not be handled: see why, and send them again.", no_args_is_help=True)
app.add_typer(parked, name="parked", rich_help_panel="This machine")

MACHINE = "This machine"
FINE, FINDING, USAGE, COULD_NOT = 0, 1, 2, 3

EnvFile = Annotated[Path, typer.Option("--env-file", help="Settings; .env.example explains each.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]

ParkedFrom = Annotated[str | None, typer.Option("--queue", help="Only those of this queue, such as audit.events.")]


@app.command(rich_help_panel=MACHINE)
def up(env_file: EnvFile = Path(".env"), *, as_json: AsJson = False) -> None:
    """Run the four services against your SteVe and Lago, until Ctrl-C or `expressync down`."""
    from deploy.local.up import run_up  # noqa: PLC0415 - a command loads what it needs, so that --help is quick

    raise typer.Exit(run_up(env_file, as_json=as_json))


@app.command(rich_help_panel=MACHINE)
def down(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Also delete the data of `up`, without asking.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Only stop; delete nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop what runs on this machine and delete its private data."""
    from deploy.local.down import run_down  # noqa: PLC0415

    raise typer.Exit(run_down(yes=yes, keep=keep, as_json=as_json))


@app.command(rich_help_panel=MACHINE)
def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Play the story without a person, check it, and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run everything, with a simulated SteVe, Lago and chargers, and show what happens."""
    from deploy.local.demo import run_demo  # noqa: PLC0415

    raise typer.Exit(run_demo(once=once, as_json=as_json))


@app.command(rich_help_panel=MACHINE)
def doctor(env_file: EnvFile = Path(".env"), *, as_json: AsJson = False) -> None:
    """Check what this installation needs, and say what to do about what is missing."""
    from deploy.local.doctor import run_doctor  # noqa: PLC0415

    raise typer.Exit(run_doctor(env_file, as_json=as_json))


@app.command(rich_help_panel=MACHINE)
def migrate(env_file: EnvFile = Path(".env"), *, as_json: AsJson = False) -> None:
    """Create or update the schemas, roles and rights of the four services."""
    from deploy.local.up import run_migrate  # noqa: PLC0415

    raise typer.Exit(run_migrate(env_file, as_json=as_json))


@parked.command("list")
def parked_list(
    *,
    queue: ParkedFrom = None,
    limit: Annotated[int, typer.Option(min=1, help="Messages shown of each queue.")] = 200,
    env_file: EnvFile = Path(".env"),
    as_json: AsJson = False,
) -> None:
    """Show parked messages, the oldest of each queue, each with its reason. Exit 0 nothing is parked, 1 a finding."""
    from deploy.local.parked import run_list  # noqa: PLC0415

    raise typer.Exit(run_list(env_file, queue=queue, limit=limit, as_json=as_json))


@parked.command("replay")
def parked_replay(
    message_id: Annotated[str | None, typer.Argument(help="Only this message; all without it.")] = None,
    *,
    queue: ParkedFrom = None,
    number: Annotated[int | None, typer.Option(min=1, help="Only this one of --queue, as `list` counts.")] = None,
    env_file: EnvFile = Path(".env"),
    as_json: AsJson = False,
) -> None:
    """Send parked messages back to the queue they came from."""
    from deploy.local.parked import run_replay  # noqa: PLC0415

    if number is not None and queue is None:
        raise typer.BadParameter("a message's number counts within its queue; give --queue too.", param_hint="--number")
    raise typer.Exit(run_replay(env_file, message_id=message_id, queue=queue, number=number, as_json=as_json))


def tell(error: InfraError, *, as_json: bool = False) -> None:
    """An error for a person: what, why, what to do."""
    if as_json:
        print(json.dumps({"error": error.what, "why": error.why, "remedy": error.remedy}))
    else:
        print(f"{error.what}\n{error.why}\n{error.remedy}", file=sys.stderr)


def main() -> None:
    """The console script."""
    from services.admin_api.cli import register  # noqa: PLC0415

    register(app)
    try:
        app()
    except InfraError as error:
        tell(error, as_json="--json" in sys.argv)
        raise SystemExit(COULD_NOT) from None


if __name__ == "__main__":
    main()
