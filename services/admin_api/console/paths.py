"""Where each thing is shown. Pages link through here, so that a room that gets a page changes one line."""

from urllib.parse import quote, urlencode

OVERVIEW = "/"
CARDS = "/cards"
AUDIT = "/audit"
SIGN_IN = "/sign-in"
SIGN_OUT = "/sign-out"
PASSWORD = "/password"  # noqa: S105 - an address
SEARCH = CARDS


def card(id_tag: str) -> str:
    return f"{CARDS}/{quote(id_tag, safe='')}"


def card_link(id_tag: str) -> str:
    return f"{card(id_tag)}/link"


def card_edit(id_tag: str) -> str:
    return f"{card(id_tag)}/edit"


def subject(of: str) -> str:
    """The audit log of one subject, such as `card/04A1B2C3`."""
    return address(AUDIT, {"subject": of})


def charger(charge_box_id: str) -> str:
    return subject(f"charger/{charge_box_id}")


def session(session_id: str) -> str:
    return subject(f"session/{session_id}")


def entry(event_id: str) -> str:
    return f"{AUDIT}/{quote(event_id, safe='')}"


def address(path: str, query: dict[str, str]) -> str:
    """The path with those parameters that are set; without any, no question mark."""
    kept = {key: text for key, text in query.items() if text}
    return f"{path}?{urlencode(kept)}" if kept else path


def of_subject(named: str) -> str:
    """The page of an event's subject: the card itself where it is one, otherwise its audit log."""
    kind, _, key = named.partition("/")
    return card(key) if kind == "card" and key else subject(named)
