"""The operators' commands: their names, options and help. Each loads what it needs, so that --help is quick."""

from typing import Annotated, Literal

import typer

from services.admin_api.cli.card_commands import cards
from services.admin_api.cli.charger_commands import chargers, interception, kiosks
from services.admin_api.cli.options import AsJson, Limit, OfCard, OfCharger, reporting
from services.admin_api.cli.sync_commands import sync

OPERATORS = "Operators"

tokens = typer.Typer(help="API tokens, for programs.", no_args_is_help=True)


@reporting
def diagnose(
    card: Annotated[str, typer.Argument(help="idTag, or a part of one card's idTag or name.")],
    *,
    charger: Annotated[str | None, typer.Option("--charger", help="What happened there; default: anywhere.")] = None,
    at: Annotated[str | None, typer.Option("--at", help="The tap nearest to this time; default: the newest.")] = None,
    as_json: AsJson = False,
) -> int:
    """Say why a card does not charge: the verdict, and the runbook's four questions. Exit 0 fine, 1 a finding."""
    from services.admin_api.cli.diagnose import run  # noqa: PLC0415

    return run(card, charger=charger, at=at, as_json=as_json)


@reporting
def sessions(
    *,
    card: OfCard = None,
    charger: OfCharger = None,
    billing: Annotated[str | None, typer.Option(help="open, pending, synced, counted, held or ignored.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> int:
    """List charging sessions, newest first, and how far each is billed."""
    from services.admin_api.cli import reading  # noqa: PLC0415

    return reading.sessions(card=card, charger=charger, billing=billing, limit=limit, as_json=as_json)


@reporting
def taps(
    *,
    card: OfCard = None,
    charger: OfCharger = None,
    pairing: Annotated[str | None, typer.Option(help="Only taps that matched this pairing (id).")] = None,
    reason: Annotated[str | None, typer.Option(help="Only those decided for this reason, e.g. nothing_armed.")] = None,
    told: Annotated[str | None, typer.Option(help="Only those told so: blocked, passed or unknown.")] = None,
    since: Annotated[str | None, typer.Option(help="Only from then on: 2026-05-01 or 2026-05-01T09:30+02:00.")] = None,
    until: Annotated[str | None, typer.Option(help="Only before then.")] = None,
    limit: Limit = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> int:
    """List taps, newest first: what was presented, decided and told, and what came of it."""
    from services.admin_api.cli import reading  # noqa: PLC0415

    return reading.taps(
        card=card,
        charger=charger,
        pairing=pairing,
        reason=reason,
        told=told,
        since=since,
        until=until,
        limit=limit,
        follow=follow,
        as_json=as_json,
    )


@reporting
def pair(
    charger: Annotated[str, typer.Argument(help="chargeBoxId.")],
    *,
    purpose: Annotated[
        Literal["find_card", "link_card"], typer.Option(help="What the scanned card is for.")
    ] = "find_card",
    connector: Annotated[int | None, typer.Option(min=1, help="Only taps at this connector.")] = None,
    window_s: Annotated[int, typer.Option("--window", min=10, max=300, help="Seconds to tap in.")] = 90,
    as_json: AsJson = False,
) -> int:
    """Take the next tap at a charger and say which card it was; it starts no session."""
    from services.admin_api.cli import changing  # noqa: PLC0415

    return changing.pair(charger, purpose=purpose, connector=connector, window_s=window_s, as_json=as_json)


@reporting
def audit(
    *,
    subject: Annotated[str | None, typer.Option(help="Such as card/04A1B2C3, exactly.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Such as card.linked.")] = None,
    actor: Annotated[str | None, typer.Option(help="Such as operator or operator/ada.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> int:
    """Read the audit log, newest first."""
    from services.admin_api.cli import reading  # noqa: PLC0415

    return reading.audit(subject=subject, type_=type_, actor=actor, limit=limit, as_json=as_json)


@tokens.command("create")
@reporting
def token_create(
    name: Annotated[str, typer.Argument(help="Who it is for; stands in the audit log.")],
    *,
    role: Annotated[Literal["viewer", "operator", "admin"], typer.Option(help="What it may do.")] = "viewer",
    days: Annotated[int, typer.Option(min=1, max=366, help="How long it is good.")] = 90,
    as_json: AsJson = False,
) -> int:
    """Create a token and show it, once."""
    from services.admin_api.cli import changing  # noqa: PLC0415

    return changing.create_token(name, role=role, days=days, as_json=as_json)


@tokens.command("list")
@reporting
def token_list(*, limit: Limit = 50, as_json: AsJson = False) -> int:
    """List tokens, newest first, also those that are revoked or expired."""
    from services.admin_api.cli import changing  # noqa: PLC0415

    return changing.list_tokens(limit=limit, as_json=as_json)


@tokens.command("revoke")
@reporting
def token_revoke(
    token: Annotated[str, typer.Argument(help="Its id, name, or beginning.")], *, as_json: AsJson = False
) -> int:
    """End a token at once."""
    from services.admin_api.cli import changing  # noqa: PLC0415

    return changing.revoke_token(token, as_json=as_json)


@reporting
def login(
    *,
    url: Annotated[str | None, typer.Option(help="Address of the console; default: EXPRESSYNC_URL.")] = None,
    name: Annotated[str | None, typer.Option(help="Operator; asked for when left out.")] = None,
    token_stdin: Annotated[bool, typer.Option("--token-stdin", help="Keep an API token, read from stdin.")] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password (and a new one, if needed) from stdin.")
    ] = False,
    allow_http: Annotated[bool, typer.Option("--allow-http", help="Also over a network without encryption.")] = False,
    as_json: AsJson = False,
) -> int:
    """Sign in; the commands then ask as you. EXPRESSYNC_URL and EXPRESSYNC_TOKEN override what is kept."""
    from services.admin_api.cli import changing  # noqa: PLC0415

    return changing.login(
        url=url,
        name=name,
        token_stdin=token_stdin,
        password_stdin=password_stdin,
        allow_http=allow_http,
        as_json=as_json,
    )


@reporting
def logout(*, as_json: AsJson = False) -> int:
    """End the session that `login` began, and forget it."""
    from services.admin_api.cli import changing  # noqa: PLC0415

    return changing.logout(as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the operators' commands to a program that has others too."""
    for command in (diagnose, sessions, taps, pair, audit, login, logout):
        app.command(rich_help_panel=OPERATORS)(command)
    groups = {
        "card": cards, "sync": sync, "charger": chargers, "kiosk": kiosks, "interception": interception,
    }  # fmt: skip
    for name, group in groups.items():
        app.add_typer(group, name=name, rich_help_panel=OPERATORS)
    app.add_typer(cards, name="cards", hidden=True)  # what it was called first
    app.add_typer(tokens, name="token", rich_help_panel=OPERATORS)
