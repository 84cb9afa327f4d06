"""What is said about Lago (facts: Lago, the start-up gate). Pure."""

from dataclasses import dataclass
from typing import Final

from deploy.local.doctor.result import Result, follow, no, unknown, yes
from deploy.local.doctor.upstream import WELL, Heard

CHECKS: Final = ("lago.reachable", "lago.authorised", "lago.metric", "lago.charge")
WEBHOOK: Final = "lago.webhook_key"
URL, API_KEY, CODE, PROPERTY, WEBHOOK_KEY = (
    f"EXPRESSYNC_SYNC_{name}"
    for name in ("LAGO_URL", "LAGO_API_KEY", "METRIC_CODE", "METRIC_PROPERTY", "LAGO_WEBHOOK_KEY")
)


@dataclass(frozen=True, slots=True)
class Found:
    """`objection`: what the gate of sync has against the metric. `plan`: one that charges for it.

    `more_plans`: there are more than were looked through.
    """

    organization: Heard
    events_store: str = "postgres"
    code: str = ""
    property: str = ""
    gate: Heard = WELL
    objection: str | None = None
    plans: Heard = WELL
    plan: str | None = None
    plans_seen: int = 0
    more_plans: bool = False


def no_address() -> list[Result]:
    why, remedy = f"{URL} is not set, or is no http or https address.", f"Set {URL}."
    return [no(CHECKS[0], why, remedy), *follow(CHECKS[1:], "Lago's address is not known.", remedy)]


def no_key() -> list[Result]:
    why, remedy = f"{API_KEY} is not set.", f"Set {API_KEY}: Lago shows it under Developers, API keys."
    return [no(CHECKS[1], why, remedy), *follow(CHECKS[2:], why, remedy)]


def judge(found: Found) -> list[Result]:
    said = found.organization
    if not said.reachable:
        return [
            no(CHECKS[0], f"Lago {said.explanation}.", _reach(said)),
            *follow(CHECKS[1:], "Lago cannot be asked.", "Repair the connection first."),
        ]
    reachable = yes(CHECKS[0], "It answers.")
    if said.reason == "rate_limited":
        remedy = "Ask again in a moment."
        return [reachable, *follow(CHECKS[1:], f"Lago {said.explanation}.", remedy)]
    if not said.well:
        return [
            reachable,
            no(CHECKS[1], f"Lago {said.explanation}.", _let_in(said)),
            *follow(CHECKS[2:], "Lago does not let us in.", "Repair the API key or the address first."),
        ]
    return [reachable, yes(CHECKS[1], _store(found.events_store)), _metric(found), _charge(found)]


def _reach(said: Heard) -> str:
    if said.reason == "server_error":
        return "Look into Lago's log, and into that of a proxy before it."
    if "CERTIFICATE" in said.explanation.upper():
        return f"Let Lago, or the proxy before it, show a certificate that is valid for the host in {URL}."
    return f"Start Lago, correct {URL}, or open the way to it (firewall, proxy)."


def _let_in(said: Heard) -> str:
    if said.reason in {"unauthorized", "forbidden"}:
        return f"Correct {API_KEY}: Lago shows it under Developers, API keys."
    return f"Correct {URL}: it is the address of Lago's API without /api/v1, not that of its web page."


def _store(events_store: str) -> str:
    if events_store == "clickhouse":
        return "It is accepted. Events are kept in ClickHouse, which rejects no duplicate; ours always look the same."
    return "It is accepted. Events are kept in PostgreSQL, which rejects a duplicate."


def _metric(found: Found) -> Result:
    if not found.gate.well:
        return unknown(CHECKS[2], f"Lago {found.gate.explanation}.", "Ask again when Lago answers.")
    if found.objection is not None:
        return no(
            CHECKS[2],
            f"Lago {found.objection}. Nothing is billed until then.",
            f"In Lago, let {found.code} be the sum (sum_agg) of the field {found.property}, or correct {CODE} and "
            f"{PROPERTY}.",
        )
    return yes(CHECKS[2], f"{found.code} sums up {found.property} (sum_agg), which is what is sent.")


def _charge(found: Found) -> Result:
    if not found.plans.well:
        return unknown(CHECKS[3], f"Lago {found.plans.explanation}.", "Ask again when Lago answers.")
    if found.plan is not None:
        return yes(CHECKS[3], f"The plan {found.plan} does.")
    if found.more_plans:
        why = f"None of the first {found.plans_seen} plans has a charge on {found.code}; there are more."
        return unknown(CHECKS[3], why, "Look into the plans of your customers in Lago.")
    plans = "There is no plan" if not found.plans_seen else f"None of the {found.plans_seen} plans has a charge"
    return no(
        CHECKS[3],
        f"{plans} on {found.code}: what is charged would be counted and cost nothing.",
        f"In Lago, add a charge on {found.code} to the plan of your customers.",
    )


def webhooks(*, key: bool) -> Result:
    """Information only: both ways are safe."""
    if key:
        return yes(WEBHOOK, "The HMAC key is set.")
    return yes(WEBHOOK, f"{WEBHOOK_KEY} is not set: webhooks signed by JWT are taken, those signed by HMAC refused.")
