"""`expressync charger ...`, `kiosk ...` and `interception ...`: their names, options and help."""

from typing import Annotated, Literal

import typer

from services.admin_api.cli.options import AsJson, Limit, TheCharger, Yes, reporting

Operation = Literal[
    "GetConfiguration",
    "ClearCache",
    "RemoteStartTransaction",
    "RemoteStopTransaction",
    "UnlockConnector",
    "Reset",
    "ChangeAvailability",
    "ChangeConfiguration",
    "TriggerMessage",
]

chargers = typer.Typer(help="Chargers: how they stand, and what to have them do.", no_args_is_help=True)
kiosks = typer.Typer(help="Kiosks: screens beside chargers.", no_args_is_help=True)
interception = typer.Typer(help="Switch off, or on, that taps are taken as scans.", no_args_is_help=True)

At = Annotated[str | None, typer.Option("--charger", help="Only there; default: everywhere.")]
Why = Annotated[str, typer.Option("--why", help="For the audit log.")]


@chargers.command("list")
@reporting
def charger_list(
    text: Annotated[str | None, typer.Argument(help="Part of a chargeBoxId.")] = None,
    *,
    connected: Annotated[bool | None, typer.Option("--connected/--disconnected", help="Only those.")] = None,
    ready: Annotated[Literal["yes", "no", "unknown"] | None, typer.Option(help="For tap-to-login.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> int:
    """List chargers that came through the gateway or where a card was tapped."""
    from services.admin_api.cli import chargers  # noqa: PLC0415

    return chargers.listed(text, connected=connected, ready=ready, limit=limit, as_json=as_json)


@chargers.command("show")
@reporting
def charger_show(charger: TheCharger, *, as_json: AsJson = False) -> int:
    """Show one charger: connection, connectors, readiness for tap-to-login. Exit 1 when it is offline or faulted."""
    from services.admin_api.cli import chargers  # noqa: PLC0415

    return chargers.shown(charger, as_json=as_json)


@chargers.command("operate")
@reporting
def charger_operate(
    charger: TheCharger,
    operation: Annotated[Operation, typer.Argument(help="What it is to do.")],
    parameters: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]...",
            help="As SteVe names them: resetType=Soft, connectorId:=1 (JSON), value=@FILE, or @- for stdin (a secret).",
        ),
    ] = None,
    *,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Have SteVe call a charger, once, and wait for its answer. Exit 0 accepted, 1 not, 3 not known."""
    from services.admin_api.cli import chargers  # noqa: PLC0415

    return chargers.operate(charger, operation, parameters or [], yes=yes, as_json=as_json)


@chargers.command("qr")
@reporting
def charger_qr(
    charger: TheCharger,
    *,
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new one; the printed one ends.")] = False,
    svg: Annotated[bool, typer.Option("--svg", help="Write the code as SVG to stdout.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Show the address in a charger's QR code, or the code itself, to print it."""
    from services.admin_api.cli import chargers  # noqa: PLC0415

    return chargers.qr(charger, rotate=rotate, svg=svg, yes=yes, as_json=as_json)


@kiosks.command("enrol")
@reporting
def kiosk_enrol(
    name: Annotated[str, typer.Argument(help="What people call the screen.")],
    chargers: Annotated[list[str], typer.Argument(metavar="CHARGER...", help="The chargers it stands beside.")],
    *,
    as_json: AsJson = False,
) -> int:
    """Make a one-time code with which a screen becomes a kiosk: type it in at its `/kiosk` page."""
    from services.admin_api.cli import kiosks  # noqa: PLC0415

    return kiosks.enrol(name, chargers, as_json=as_json)


@kiosks.command("list")
@reporting
def kiosk_list(*, as_json: AsJson = False) -> int:
    """List kiosks, newest first, also those that are revoked."""
    from services.admin_api.cli import kiosks  # noqa: PLC0415

    return kiosks.listed(as_json=as_json)


@kiosks.command("revoke")
@reporting
def kiosk_revoke(
    kiosk: Annotated[str, typer.Argument(help="Its id, or the name of the one in use.")],
    *,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Take a kiosk its key: nothing can be armed there any more."""
    from services.admin_api.cli import kiosks  # noqa: PLC0415

    return kiosks.revoke(kiosk, yes=yes, as_json=as_json)


@interception.command("off")
@reporting
def interception_off(*, charger: At = None, why: Why = "", yes: Yes = False, as_json: AsJson = False) -> int:
    """Leave every tap to SteVe: cards charge, nobody can log in."""
    from services.admin_api.cli import kiosks  # noqa: PLC0415

    return kiosks.switch(on=False, charger=charger, why=why, yes=yes, as_json=as_json)


@interception.command("on")
@reporting
def interception_on(*, charger: At = None, why: Why = "", as_json: AsJson = False) -> int:
    """Take taps as scans again, where a pairing is armed."""
    from services.admin_api.cli import kiosks  # noqa: PLC0415

    return kiosks.switch(on=True, charger=charger, why=why, yes=True, as_json=as_json)
