"""`python -m services.admin_api.cli`: the operators' commands alone, for a machine that runs no service."""

import typer

from services.admin_api.cli import register

app = typer.Typer(
    name="expressync",
    help="Did this tap charge, did it bill, and if not, why not?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
register(app)

if __name__ == "__main__":
    app()
