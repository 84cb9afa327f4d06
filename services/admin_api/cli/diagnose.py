"""`expressync diagnose CARD`: the verdict first, then the evidence."""

from services.admin_api.cli import show
from services.admin_api.cli.client import Api, Json
from services.admin_api.cli.errors import COULD_NOT_ASK, FINDING, FINE, USAGE, CliError
from services.admin_api.cli.times import exact
from services.admin_api.console.view.diagnosis import DECIDERS, Check
from services.admin_api.diagnosis.codes import STANDING, UNASKED_CODES


def run(card: str, *, charger: str | None, at: str | None, as_json: bool) -> int:
    """Exit code 0: fine, 1: a finding, 3: not everybody could be asked."""
    when = exact(at, "--at") if at is not None else None
    with Api() as api:
        made = api.change("/diagnoses", {"card": _resolve(api, card), "charger": charger, "at": when})
    if as_json:
        show.as_json(made)
    elif show.on_terminal():
        _draw(made)
    else:
        _write(made)
    return exit_code(made["verdict"]["code"])


def exit_code(code: str) -> int:
    if code == "fine":
        return FINE
    return COULD_NOT_ASK if code in UNASKED_CODES else FINDING


def _resolve(api: Api, card: str) -> str:
    """The idTag: what was typed, or the one card whose idTag or name it is a part of."""
    try:
        found = api.get("/cards", q=card, limit=10)["items"]
    except CliError:
        return card  # who does not answer is for the diagnosis to say
    tags = [each["id_tag"] for each in found]
    if not tags or card.strip().upper() in tags:
        return card
    if len(tags) > 1:
        raise CliError(
            f"{card!r} is not one card.",
            f"It is part of {', '.join(tags[:5])}{' and others' if len(tags) > 5 else ''}.",
            "Give one of them.",
            code=USAGE,
        )
    show.say(f"{card} is {tags[0]}{' (' + found[0]['display_name'] + ')' if found[0]['display_name'] else ''}.")
    return str(tags[0])


def _state(check: Json) -> str:
    return str(Check(check["id"], check["answer"], check["why"]).state)


def _question(check: Json) -> str:
    return Check(check["id"], check["answer"], check["why"]).question


def _draw(made: Json) -> None:
    verdict = made["verdict"]
    show.line(made["card"], bold=True)
    show.line(show.marked(STANDING.get(verdict["code"], "unknown"), verdict["sentence"]), bold=True)
    by = f"Decided by {DECIDERS.get(verdict['decided_by'], verdict['decided_by'])}" if verdict["decided_by"] else ""
    since = f"since {show.moment(verdict['since'])}" if verdict["since"] else ""
    if by or since:
        show.line(show.Cell(f"  {by} {since}".rstrip(), "unknown"))
    show.line(f"  {verdict['remedy']}")
    show.line("")
    rows = [(show.marked(_state(check), check["answer"]), _question(check), check["why"]) for check in made["checks"]]
    show.table(["", "question", "why"], rows, empty="No check was made.")
    evidence = [
        (fact["source"], show.moment(fact["at"]), fact["says"])
        for check in made["checks"]
        for fact in check["evidence"]
    ]
    if evidence:
        show.line("")
        show.table(["says", "at", "evidence"], evidence, empty="")


def _write(made: Json) -> None:
    verdict = made["verdict"]
    show.plain("card", made["card"])
    show.plain("verdict", verdict["code"], verdict["sentence"], verdict["remedy"])
    show.plain("decided by", verdict["decided_by"] or "nobody", verdict["since"])
    for check in made["checks"]:
        show.plain("check", check["id"], check["answer"], check["why"])
        for fact in check["evidence"]:
            show.plain("evidence", check["id"], fact["source"], fact["at"], fact["says"])
