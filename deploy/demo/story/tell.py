"""Events in a driver's and an operator's words, one line each."""

from typing import Any, Final

from deploy.demo.story.cast import CARDS

HOLDERS: Final = {card.id_tag: card.holder for card in CARDS}
_PURPOSES: Final = {"login": "log in", "link_card": "link a card", "find_card": "find a card"}


def _card(data: dict[str, Any]) -> str:
    id_tag = str(data.get("id_tag", "?"))
    return f"{HOLDERS[id_tag]}'s card" if id_tag in HOLDERS else f"card {id_tag}"


def _kwh(wh: int) -> str:
    tenths = (wh + 50) // 100
    return f"{tenths // 10}.{tenths % 10} kWh"


def sentence(event: dict[str, Any]) -> str | None:
    """What happened, or None for what a person watching need not see."""
    data = event["data"]
    charger = data.get("charge_box_id", "")
    told = {
        "pairing.armed": lambda: (
            f"{charger}: armed to {_PURPOSES[data['purpose']]}; the next card tapped there is taken for it"
        ),
        "scan.intercepted": lambda: f"{charger}: {_card(data)} was intercepted; the refusal is intended",
        "scan.login_succeeded": lambda: f"{charger}: the driver who tapped {_card(data)} is logged in",
        "scan.login_refused": lambda: f"{charger}: {_card(data)} may not log in ({data['reason'].replace('_', ' ')})",
        "tap.decided": lambda: f"{charger}: {_card(data)} was tapped ({data['kind']}); {_decision(data)}",
        "transaction.started": lambda: f"{charger}: {_card(data)} began a session",
        "transaction.stopped": lambda: (
            f"{charger}: {_card(data)} ended its session, {_kwh(data['stop_wh'] - data['start_wh'])}"
        ),
        "transaction.synced": lambda: (
            f"{_kwh(data['to_wh'] - data['from_wh'])} of {_card(data)} arrived in Lago,"
            f" {data['external_subscription_id']}"
        ),
        "transaction.counted": lambda: (
            f"Lago counts {_kwh(data['to_wh'] - data['from_wh'])} of session {data['session']}"
        ),
        "transaction.held": lambda: f"session {data['session']} is held: {data['explanation']}",
        "card.discovered": lambda: f"{_card(data)} was found in SteVe",
        "card.linked": lambda: f"{_card(data)} is linked to {data['external_subscription_id']}",
        "upstream.lost": lambda: f"{data['upstream']} was lost: {data['explanation']}",
        "upstream.recovered": lambda: f"{data['upstream']} is back",
        "operator.signed_in": lambda: f"operator {data['operator']} signed in",
        "diagnosis.made": lambda: f"{_card(data)} was diagnosed: {data['verdict']}",
    }.get(event["type"])
    return told() if told is not None else None


def _decision(data: dict[str, Any]) -> str:
    decided = "intercepted" if data["decision"] == "intercept" else "let through"
    return f"{decided} in {data['duration_us'] / 1000:.1f} ms ({str(data['reason']).replace('_', ' ')})"
