"""Commands that change something: links, pairings, tokens, and one's own access."""

import sys
import time
from typing import Final
from urllib.parse import quote

import typer

from services.admin_api.cli import config, show
from services.admin_api.cli.client import Api, Json
from services.admin_api.cli.config import Access
from services.admin_api.cli.errors import FINDING, FINE, CliError, Refused
from services.admin_api.cli.times import exact, instant
from services.admin_api.cli.typed import sure
from services.admin_api.console.drawing import links as drawing
from shared.contracts.requests.sync_cards import LinkPreview
from shared.web.client import sendable

POLL_S: Final = 0.5
WAITING: Final = {"armed", "matched"}
SCANNED: Final = {"intercepted", "consumed"}


def link(
    card: str,
    customer: str,
    subscription: str,
    *,
    since: str | None,
    release_from: str | None,
    relink: bool,
    yes: bool,
    as_json: bool,
) -> int:
    body = {
        "external_customer_id": customer,
        "external_subscription_id": subscription,
        "valid_from": instant(since, "--from"),
        "release_from": exact(release_from, "--release-from") if release_from is not None else None,
    }
    with Api() as api:
        preview = _preview(api, card, body)
        for each in _consequences(preview, releases=release_from is not None):
            show.say(each)
        moves = _moves(preview)
        if moves and not relink and (yes or not show.on_terminal()):
            # A mistyped idTag in a script is to take nobody's card from them.
            raise CliError(
                f"Card {card} is linked already.",
                "Somebody else pays for it now, as said above.",
                "Add --relink to have it relinked. Nothing was changed.",
                code=FINDING,
            )
        sure([], "Relink it?" if moves else "Link it?", yes=yes)
        made = api.change(f"/cards/{quote(card, safe='')}/{'relink' if moves else 'link'}", body)
    if as_json:
        show.as_json(made)
    else:
        found = made["link"]
        show.facts(
            [
                ("card", made["id_tag"]),
                ("customer", found["external_customer_id"]),
                ("subscription", found["external_subscription_id"]),
                ("valid from", show.moment(found["valid_from"])),
            ]
        )
    return FINE


def _preview(api: Api, card: str, body: Json) -> LinkPreview | None:
    """What a link would change, where sync counts it now."""
    try:
        given = api.get(f"/cards/{quote(card, safe='')}/link-preview", **body)
    except Refused as silent:
        if silent.status < 500:
            raise
        # The change itself is checked by its owner all the same; only the counting is missing.
        return None
    return LinkPreview.model_validate(given)


def _moves(preview: LinkPreview | None) -> bool:
    """Whether somebody else pays for the card now, and it is to be linked anew."""
    if preview is None or (now := preview.current) is None:
        return False
    pays = (now.external_customer_id, now.external_subscription_id)
    return pays != (preview.external_customer_id, preview.external_subscription_id)


def _consequences(preview: LinkPreview | None, *, releases: bool) -> list[str]:
    """What a link will do, in the words of the console's page; nothing of it has happened yet."""
    if preview is None:
        return ["What this will change is not known right now: sync did not count it."]
    drawn = drawing.preview(preview)
    held = (
        f"{drawn.release}." if releases else f"{drawn.release}: --release-from DATE does it, without it they stay held."
    )
    return [*drawn.consequences, *([held] if drawn.release else []), *preview.problems]


def pair(charger: str, *, purpose: str, connector: int | None, window_s: int, as_json: bool) -> int:
    """Arm, then wait for the scan. Exit code 0: a card was scanned, 1: none came."""
    body = {"charge_box_id": charger, "connector_id": connector, "purpose": purpose, "window_s": window_s}
    with Api() as api:
        armed = api.change("/pairings", body)
        if not as_json:
            show.say(f"Tap the card at {charger} within {window_s} s. The code there is {armed['code']}.")
        try:
            ended = _wait(api, armed, window_s)
        except KeyboardInterrupt:
            _give_back(api, armed)
            return FINDING
        except CliError:
            _give_back(api, armed)
            raise
        card = ended.get("id_tag") or _scanned_card(api, armed["pairing_id"])
    if as_json:
        show.as_json({**ended, "id_tag": card})
    elif ended["state"] in SCANNED:
        show.facts([("card", card), ("pairing", ended["pairing_id"]), ("state", ended["state"])])
    else:
        show.say(f"No card was scanned: the pairing is {ended['state']}.")
    return FINE if ended["state"] in SCANNED else FINDING


def create_token(name: str, *, role: str, days: int, as_json: bool) -> int:
    with Api() as api:
        made = api.change("/tokens", {"name": name, "role": role, "days": days})
    if as_json:
        show.as_json(made)
        return FINE
    show.say(f"Keep it now, it is not shown again. It is good as {made['role']} until {made['expires_at']}.")
    show.plain(made["token"] or "")
    return FINE


def list_tokens(*, limit: int, as_json: bool) -> int:
    with Api() as api:
        items = list(api.pages("/tokens", limit))
    if as_json:
        show.as_json(items)
        return FINE
    rows = [
        (
            t["token_id"],
            t["name"],
            t["prefix"],
            t["role"],
            show.moment(t["expires_at"]),
            show.moment(t["last_used_at"]) or "never",
            show.Cell("revoked", "unknown") if t["revoked_at"] else show.Cell("in use", "ok"),
        )
        for t in items
    ]
    columns = ["id", "name", "begins with", "role", "expires", "last used", "state"]
    show.table(columns, rows, empty="There are no tokens. `expressync token create NAME` makes one.")
    return FINE


def revoke_token(token: str, *, as_json: bool) -> int:
    """By id, or by the name of the one in use."""
    with Api() as api:
        found = [t for t in api.pages("/tokens", 10_000) if token in (t["token_id"], t["name"], t["prefix"])]
        active = [t for t in found if t["revoked_at"] is None] or found
        if not active:
            raise CliError(
                f"There is no token {token!r}.",
                "No id, name or prefix is that.",
                "`expressync token list` lists them.",
                code=FINDING,
            )
        made = api.change(f"/tokens/{active[0]['token_id']}/revoke")
    if as_json:
        show.as_json(made)
    else:
        show.say(f"{made['name']} is revoked.")
    return FINE


def login(
    *,
    url: str | None,
    name: str | None,
    token_stdin: bool,
    password_stdin: bool,
    allow_http: bool,
    as_json: bool = False,
) -> int:
    address = config.load(url).url
    config.refuse_clear_text(address, allowed=allow_http)
    token = sys.stdin.readline().strip() if token_stdin else _sign_in(address, name, stdin=password_stdin)
    access = Access(address, token)
    with Api(access) as api:
        me = api.get("/me")
    file = config.save(access)
    if as_json:
        show.as_json({"url": address, "name": me["name"], "role": me["role"], "kept_in": str(file)})
    else:
        show.say(f"Signed in at {address} as {me['name']} ({me['role']}). Kept in {file}, for you only.")
    return FINE


def logout(*, as_json: bool = False) -> int:
    access, kept = config.load(), config.kept()
    # Nobody was ever signed in by a kept token that no header can carry: there is nothing to end.
    if access.token is not None and (access != kept or sendable(access.token)):
        with Api(access) as api:
            try:
                api.delete("/session")
            except Refused as refused:
                if refused.status != 401:
                    raise
    config.forget()
    if as_json:
        show.as_json({"signed_in": False})
    else:
        show.say("Signed out.")
    return FINE


def _sign_in(address: str, name: str | None, *, stdin: bool) -> str:
    # Before anything secret is typed: without --url, the address is that of the login that is kept.
    if not stdin:
        show.say(f"Signing in at {address}.")
    name = name or str(typer.prompt("Operator", err=True))
    password = (
        sys.stdin.readline().rstrip("\r\n") if stdin else str(typer.prompt("Password", hide_input=True, err=True))
    )
    body = {"name": name, "password": password}
    with Api(Access(address, None)) as api:
        try:
            return str(api.post("/session", body)["token"])
        except Refused as refused:
            if refused.problem != "password_change_required":
                raise
        show.say("You signed in with a one-time password. Choose your own, of at least 12 characters.")
        chosen = (
            sys.stdin.readline().rstrip("\r\n")
            if stdin
            else str(typer.prompt("New password", hide_input=True, confirmation_prompt=True, err=True))
        )
        return str(api.post("/session", {**body, "new_password": chosen})["token"])


def _give_back(api: Api, armed: Json) -> None:
    """Cancel a scan that nobody waits for any more, or say what it still does."""
    try:
        api.change(f"/pairings/{armed['pairing_id']}/cancel")
    except CliError as error:
        if isinstance(error, Refused) and error.status < 500:
            show.say(f"The scan at {armed['charge_box_id']} was not cancelled: {error.why}")
            return
        until = show.moment(armed["expires_at"])
        show.say(
            f"The scan at {armed['charge_box_id']} may be armed until {until}: a card tapped there is not charged."
        )
    else:
        show.say("Cancelled: the charger charges again.")


def _wait(api: Api, armed: Json, window_s: int) -> Json:
    """The pairing as it ended. The window is waited for by duration: clocks here and there may differ."""
    over_at = time.monotonic() + window_s + 10
    while True:
        found = next(
            (
                each
                for each in api.pages("/pairings", 50, charger=armed["charge_box_id"])
                if each["pairing_id"] == armed["pairing_id"]
            ),
            armed,
        )
        if found["state"] not in WAITING or time.monotonic() > over_at:
            return found
        time.sleep(POLL_S)


def _scanned_card(api: Api, pairing_id: str) -> str | None:
    taps = api.get("/taps", pairing=pairing_id, limit=1)["items"]
    return str(taps[0]["id_tag"]) if taps else None
