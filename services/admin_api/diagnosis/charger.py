"""How the charger stands where the card was tapped: what preauth knows of it, as facts. Pure."""

from datetime import datetime, timedelta
from typing import Final

from services.admin_api.answers import Silent
from services.admin_api.console import format as fmt
from services.admin_api.diagnosis.model import Evidence, Fact
from shared.contracts.requests.preauth import ChargerView, ConnectorView, TapView

RECENT: Final = timedelta(minutes=15)
"""What a tap came to, and how its charger stands now, belong together so long."""


def is_recent(tapped_at: datetime, evidence: Evidence) -> bool:
    """Whether somebody who asks about the card now, or about the time they named, means this tap."""
    return abs((evidence.at or evidence.now) - tapped_at) <= RECENT


def steves_refusal(evidence: Evidence) -> TapView | None:
    """The tap in question, where the gateway saw SteVe itself answer anything but Accepted.

    A Blocked that stands for a login is none: it is ours, and may have come back to us through a patched SteVe.
    """
    taps = [] if isinstance(evidence.taps, Silent) else evidence.taps.value
    tap = taps[0] if taps else None
    if tap is None or (tap.decision == "intercept" and tap.told != "passed"):
        return None
    return tap if tap.steve_answer not in (None, "", "Accepted") else None


def in_words(steve_answer: str | None) -> str:
    """SteVe's answer as the gateway noted it: a status, or `error:<code>`."""
    kind, _, code = (steve_answer or "").partition(":")
    return f"with an error ({code})" if code else kind


def charger_facts(evidence: Evidence) -> list[Fact]:
    """Online or not, its connectors, and whether it stays off when told Blocked."""
    asked = evidence.charger
    if asked is None:
        return []
    if isinstance(asked, Silent):
        return [Fact(source="preauth", says="How the charger stands is not known: nobody answered.", at=asked.as_of)]
    found = asked.value
    if found is None:
        return []
    facts = [_connection(found), *(_connector(found, each) for each in _of_tap(evidence, found))]
    if found.honours_override == "no":
        says = f"{found.charge_box_id} was told Blocked before, and charged all the same."
        facts.append(Fact(source="preauth", says=says))
    return facts


def charger_troubles(evidence: Evidence) -> list[Fact]:
    """What stands in the way at the charger now, where the tap was just now."""
    asked = evidence.charger
    taps = [] if isinstance(evidence.taps, Silent) else evidence.taps.value
    if asked is None or isinstance(asked, Silent) or asked.value is None or not taps:
        return []
    found = asked.value
    if abs(evidence.now - taps[0].tapped_at) > RECENT:
        return []
    if found.connected is False:
        return [_connection(found)]
    return [_connector(found, each) for each in _of_tap(evidence, found) if each.state.status == "Faulted"]


def is_offline(evidence: Evidence) -> bool:
    asked = evidence.charger
    return not (asked is None or isinstance(asked, Silent) or asked.value is None) and asked.value.connected is False


def _of_tap(evidence: Evidence, charger: ChargerView) -> list[ConnectorView]:
    """The connector of the tap and the charger as a whole; all of them where the tap names none."""
    taps = [] if isinstance(evidence.taps, Silent) else evidence.taps.value
    at = taps[0].connector_id if taps else None
    return [each for each in charger.connectors if not at or each.connector_id in (0, at)]


def _connection(charger: ChargerView) -> Fact:
    name, how = charger.charge_box_id, " through the gateway" if charger.via_gateway else ""
    if charger.connected is None:
        return Fact(source="preauth", says=f"Whether {name} is online is not known.", at=charger.connected_as_of)
    if charger.connected:
        return Fact(source="preauth", says=f"{name} is online{how}.", at=charger.connected_as_of)
    since = f" since {fmt.instant(charger.disconnected_at)}" if charger.disconnected_at else ""
    return Fact(source="preauth", says=f"{name} is offline{since}.", at=charger.connected_as_of)


def _connector(charger: ChargerView, connector: ConnectorView) -> Fact:
    which = f"connector {connector.connector_id} of {charger.charge_box_id}"
    name = fmt.sentence(which) if connector.connector_id else charger.charge_box_id
    error = connector.state.error_code
    why = "" if error == "NoError" else f" ({error}{': ' + connector.state.info if connector.state.info else ''})"
    says = f"{name} reports {connector.state.status}{why}."
    return Fact(source="preauth", says=says, at=connector.reported_at)
