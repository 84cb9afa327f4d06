"""`expressync sync ...`: their names, options and help."""

from enum import StrEnum
from typing import Annotated, Literal

import typer

from services.admin_api.cli.options import AsJson, Limit, OfCard, OfCharger, Yes, reporting


class Segment(StrEnum):
    """typer takes a list of an enumeration, not of a Literal."""

    CARDS = "cards"
    NEW = "new"
    OPEN = "open"
    SWEEP = "sweep"
    SETTLE = "settle"
    DELIVER = "deliver"


sync = typer.Typer(help="Billing: runs, what is held, and the proof that it adds up.", no_args_is_help=True)

Sessions = Annotated[list[str] | None, typer.Argument(metavar="[SESSION]...", help="Such as main:42.")]


@sync.command("run")
@reporting
def sync_run(
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end.")] = False,
    segments: Annotated[
        list[Segment] | None, typer.Option("--segment", help="Only this; may be repeated. Default: all but the sweep.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Look at SteVe and bill what is new, now. With --watch, exit 1 when something failed or was held."""
    from services.admin_api.cli import running  # noqa: PLC0415

    return running.run(segments or [], watch=watch, as_json=as_json)


@sync.command("status")
@reporting
def sync_status(*, limit: Limit = 5, as_json: AsJson = False) -> int:
    """Say how SteVe and Lago stand, what the last runs did, and what is held. Exit 1 when something is wrong."""
    from services.admin_api.cli import running  # noqa: PLC0415

    return running.status(limit=limit, as_json=as_json)


@sync.command("cadence")
@reporting
def sync_cadence(
    mode: Annotated[Literal["active", "idle", "dormant", "auto"], typer.Argument(help="auto: as it happens.")],
    *,
    as_json: AsJson = False,
) -> int:
    """Fix how often SteVe is looked at, or let it follow what happens again."""
    from services.admin_api.cli import running  # noqa: PLC0415

    return running.cadence(mode, as_json=as_json)


@sync.command("held")
@reporting
def sync_held(
    *,
    reason: Annotated[str | None, typer.Option(help="Only held for this, such as card_unlinked.")] = None,
    card: OfCard = None,
    charger: OfCharger = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> int:
    """List sessions that are not billed, longest held first, each with its remedy. Exit 1 if there are any."""
    from services.admin_api.cli import held  # noqa: PLC0415

    return held.listed(reason=reason, card=card, charger=charger, limit=limit, as_json=as_json)


@sync.command("retry")
@reporting
def sync_retry(
    sessions: Sessions = None,
    *,
    reason: Annotated[str | None, typer.Option(help="All that are held for this.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are held.")] = False,
    as_json: AsJson = False,
) -> int:
    """Decide again about held sessions, after their cause is gone. Nothing is let pass. One that is named may also have
    been ignored: that is taken back.
    """
    from services.admin_api.cli import held  # noqa: PLC0415

    return held.retry(sessions or [], reason=reason, everything=everything, as_json=as_json)


@sync.command("ignore")
@reporting
def sync_ignore(
    sessions: Annotated[list[str], typer.Argument(metavar="SESSION...", help="Such as main:42.")],
    *,
    note: Annotated[str, typer.Option("--note", help="Why they are not to be billed.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Decide that held sessions are not billed; the note stays with them. A retry by name takes it back."""
    from services.admin_api.cli import held  # noqa: PLC0415

    return held.ignore(sessions, note=note, yes=yes, as_json=as_json)


@sync.command("release")
@reporting
def sync_release(
    sessions: Sessions = None,
    *,
    card: Annotated[str | None, typer.Option("--card", help="All of this card that lack an owner ...")] = None,
    since: Annotated[str | None, typer.Option("--since", help="... and began then or later.")] = None,
    change_owner: Annotated[
        bool, typer.Option("--change-owner", help="Also those of another customer than the card's of now.")
    ] = False,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Bill held sessions although: the anomaly is let pass, one without an owner gets the card's owner of now."""
    from services.admin_api.cli import held  # noqa: PLC0415

    return held.release(
        sessions or [], card=card, since=since, change_owner=change_owner, note=note, yes=yes, as_json=as_json
    )


@sync.command("webhooks")
@reporting
def sync_webhooks(
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="With --replay: only these.")] = None,
    *,
    replay: Annotated[bool, typer.Option("--replay", help="Act again on those that failed.")] = False,
    as_json: AsJson = False,
) -> int:
    """Show how Lago's webhooks stand. Exit 1 when some could not be acted on."""
    from services.admin_api.cli import webhooks  # noqa: PLC0415

    return webhooks.replay(keys or [], as_json=as_json) if replay else webhooks.shown(as_json=as_json)


@sync.command("reconcile")
@reporting
def sync_reconcile(
    subscription: Annotated[str | None, typer.Argument(help="Its external id in Lago; default: all.")] = None,
    *,
    stored: Annotated[bool, typer.Option("--stored", help="Show earlier proofs, of all periods; ask nobody.")] = False,
    differing: Annotated[bool, typer.Option("--differing", help="Only where something differs.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many; default: all.")] = None,
    as_json: AsJson = False,
) -> int:
    """Prove that SteVe's kWh = what was sent = what Lago counted. Exit 1 on a difference, 3 if it cannot be told."""
    from services.admin_api.cli import proving  # noqa: PLC0415

    return proving.reconcile(subscription, stored=stored, differing=differing, limit=limit, as_json=as_json)
