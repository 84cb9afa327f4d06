"""The diagnosis as the card page shows it."""

from services.admin_api.console.view import diagnosis as view
from services.admin_api.console.view.state import Action, State
from services.admin_api.diagnosis.codes import STANDING
from services.admin_api.diagnosis.model import Check, Diagnosis, Fact

_SOURCES = {"steve": "SteVe", "lago": "Lago", "sync": "ExpresSync", "preauth": "Tap journal", "audit": "Audit"}


def diagnosis(made: Diagnosis, actions: tuple[Action, ...] = ()) -> view.Diagnosis:
    verdict = made.verdict
    return view.Diagnosis(
        view.Verdict(
            code=verdict.code,
            state=State(STANDING[verdict.code]),
            sentence=verdict.sentence,
            remedy=verdict.remedy,
            decided_by=verdict.decided_by or "",
            since=verdict.since,
            actions=actions,
        ),
        tuple(_check(check) for check in made.checks),
    )


def _check(check: Check) -> view.Check:
    evidence = tuple(_fact(fact) for fact in check.evidence)
    return view.Check(check.id, check.answer, check.why, check.as_of, evidence)


def _fact(fact: Fact) -> str:
    return f"{_SOURCES[fact.source]}: {fact.says}"
