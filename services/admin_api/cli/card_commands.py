"""`expressync card ...`: their names, options and help."""

from typing import Annotated, Literal

import typer

from services.admin_api.cli.options import AsJson, Limit, TheCard, Yes, reporting

CardType = Literal["ev_card", "keytag", "app", "meta"]

cards = typer.Typer(help="Cards: list, show, change, block, link, undo.", no_args_is_help=True)


@cards.command("list")
@reporting
def cards_list(
    text: Annotated[str | None, typer.Argument(help="Part of an idTag or a name.")] = None,
    *,
    linked: Annotated[bool | None, typer.Option("--linked/--not-linked", help="Only those.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> int:
    """List cards, by idTag."""
    from services.admin_api.cli import reading  # noqa: PLC0415

    return reading.cards(text, linked=linked, limit=limit, as_json=as_json)


@cards.command("show")
@reporting
def cards_show(card: Annotated[str, typer.Argument(help="idTag.")], *, as_json: AsJson = False) -> int:
    """Show one card: how it stands, in SteVe, linked to whom, its last sessions."""
    from services.admin_api.cli import reading  # noqa: PLC0415

    return reading.card(card, as_json=as_json)


@cards.command("link")
@reporting
def cards_link(
    card: Annotated[str, typer.Argument(help="idTag.")],
    *,
    customer: Annotated[str, typer.Option("--customer", help="The customer's external id in Lago.")],
    subscription: Annotated[str, typer.Option("--subscription", help="The subscription's external id in Lago.")],
    since: Annotated[str | None, typer.Option("--from", help="Valid from, such as 2026-05-01; default: now.")] = None,
    release_from: Annotated[
        str | None, typer.Option("--release-from", help="Also bill what is held and began then or later.")
    ] = None,
    relink: Annotated[
        bool, typer.Option("--relink", help="Also one that is linked to somebody else, unasked.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Bill a card's sessions to a customer's subscription; one that is linked is relinked."""
    from services.admin_api.cli import changing  # noqa: PLC0415

    return changing.link(
        card,
        customer,
        subscription,
        since=since,
        release_from=release_from,
        relink=relink,
        yes=yes,
        as_json=as_json,
    )


@cards.command("unlink")
@reporting
def cards_unlink(
    card: TheCard,
    *,
    until: Annotated[str | None, typer.Option("--to", help="The link ends then; default: now.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """End a card's link: sessions that start later are held."""
    from services.admin_api.cli import cards  # noqa: PLC0415

    return cards.unlink(card, until=until, yes=yes, as_json=as_json)


@cards.command("create")
@reporting
def cards_create(
    card: Annotated[str, typer.Argument(help="idTag, as SteVe shall spell it.")],
    *,
    name: Annotated[str | None, typer.Option("--name", help="What people call it.")] = None,
    cardholder: Annotated[str | None, typer.Option(help="Who has it.")] = None,
    card_type: Annotated[CardType, typer.Option("--type", help="What it is.")] = "ev_card",
    parent: Annotated[str | None, typer.Option(help="The idTag of its parent.")] = None,
    expiry: Annotated[str | None, typer.Option(help="Such as 2027-01-01; default: never.")] = None,
    limit: Annotated[int, typer.Option(min=-1, max=1000, help="Sessions at once; 0 blocked, -1 unlimited.")] = 1,
    note: Annotated[str | None, typer.Option(help="SteVe's note.")] = None,
    as_json: AsJson = False,
) -> int:
    """Create a card, in SteVe and here."""
    from services.admin_api.cli import cards  # noqa: PLC0415

    body = {
        "id_tag": card,
        "display_name": name,
        "cardholder": cardholder,
        "card_type": card_type,
        "parent_id_tag": parent,
        "max_active_transaction_count": limit,
        "note": note,
    }
    return cards.create(body, expiry=expiry, as_json=as_json)


@cards.command("set")
@reporting
def cards_set(
    card: TheCard,
    *,
    name: Annotated[str | None, typer.Option("--name", help='What people call it; "" for no name.')] = None,
    cardholder: Annotated[str | None, typer.Option(help='Who has it; "" for nobody.')] = None,
    card_type: Annotated[CardType | None, typer.Option("--type", help="What it is.")] = None,
    active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="The sessions of an inactive card are held.")
    ] = None,
    notes: Annotated[str | None, typer.Option(help='Notes of ours; "" for none.')] = None,
    as_json: AsJson = False,
) -> int:
    """Change what only ExpresSync keeps of a card; SteVe is not touched."""
    from services.admin_api.cli import cards  # noqa: PLC0415

    given = {"display_name": name, "cardholder": cardholder, "card_type": card_type, "active": active, "notes": notes}
    return cards.change(card, {field: value for field, value in given.items() if value is not None}, as_json=as_json)


@cards.command("block")
@reporting
def cards_block(
    card: TheCard,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why, for whoever asks later.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Have SteVe refuse a card; the limit it has is remembered."""
    from services.admin_api.cli import cards  # noqa: PLC0415

    return cards.block(card, reason=reason, yes=yes, as_json=as_json)


@cards.command("unblock")
@reporting
def cards_unblock(
    card: TheCard,
    *,
    limit: Annotated[
        int | None,
        typer.Option(min=-1, max=1000, help="Needed where none is remembered: it was blocked in SteVe itself."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Give a card back the limit it had."""
    from services.admin_api.cli import cards  # noqa: PLC0415

    return cards.unblock(card, limit=limit, as_json=as_json)


@cards.command("parent")
@reporting
def cards_parent(
    card: TheCard,
    parent: Annotated[str | None, typer.Argument(help="The parent's idTag.")] = None,
    *,
    none: Annotated[bool, typer.Option("--none", help="Under no card.")] = False,
    as_json: AsJson = False,
) -> int:
    """Put a card under another one, or under none. Sessions that have begun stay whose they are."""
    from services.admin_api.cli import cards  # noqa: PLC0415

    return cards.parent(card, parent, none=none, as_json=as_json)


@cards.command("expiry")
@reporting
def cards_expiry(
    card: TheCard,
    expiry: Annotated[str | None, typer.Argument(help="Such as 2027-01-01 or 2027-01-01T09:30.")] = None,
    *,
    never: Annotated[bool, typer.Option("--never", help="It does not expire.")] = False,
    as_json: AsJson = False,
) -> int:
    """Say when a card expires in SteVe."""
    from services.admin_api.cli import cards  # noqa: PLC0415

    return cards.expiry(card, expiry, never=never, as_json=as_json)


@cards.command("undo")
@reporting
def cards_undo(
    card: TheCard,
    *,
    change: Annotated[str | None, typer.Option("--change", help="Another change than the last, by its id.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Undo the last change of a card; refused where the card has moved on since."""
    from services.admin_api.cli import cards  # noqa: PLC0415

    return cards.undo(card, change, yes=yes, as_json=as_json)


@cards.command("pin")
@reporting
def cards_pin(
    card: TheCard,
    *,
    clear: Annotated[bool, typer.Option("--clear", help="Take the PIN away.")] = False,
    as_json: AsJson = False,
) -> int:
    """Give a card a PIN of 4 to 8 digits, for logins through a QR code; asked for, or read from stdin."""
    from services.admin_api.cli import cards  # noqa: PLC0415

    return cards.pin(card, clear=clear, as_json=as_json)
