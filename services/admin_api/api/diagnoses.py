"""Why does this card not charge? Made on request, and recorded: the same question later has a history."""

from fastapi import APIRouter
from pydantic import AwareDatetime, Field

from services.admin_api.api.deps import AsViewer, Key, TheHouse
from services.admin_api.api.once import once
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from services.admin_api.diagnosis.evidence import gather
from services.admin_api.diagnosis.model import Diagnosis
from services.admin_api.diagnosis.rules import diagnose
from services.admin_api.house import House
from shared.contracts.events.admin_api import DiagnosisMade
from shared.contracts.identity import Frozen
from shared.database.engine import Write


class DiagnosisBody(Frozen):
    card: str = Field(min_length=1, max_length=64, description="idTag")
    charger: str | None = Field(None, min_length=1, max_length=255, description="what happened there; null: anywhere")
    at: AwareDatetime | None = Field(None, description="the tap nearest to this time; null: the newest")


async def make_diagnosis(house: House, ask: Ask, body: DiagnosisBody, key: str) -> Diagnosis:
    """Ask everybody, judge, and record that somebody asked. Silence becomes unknown; it never raises for it."""
    evidence = await gather(ask, body.card, charger=body.charger, at=body.at)
    made = diagnose(evidence)

    async def run(tx: Write) -> Diagnosis:
        event = DiagnosisMade(
            id_tag=made.card,
            verdict=made.verdict.code,
            answers={check.id: check.answer for check in made.checks},
        )
        await house.outbox.add(tx, event, ask.cause)
        return made

    given = body.model_dump(mode="json")
    return await once(house, ask, key, name="make_diagnosis", given=given, reply=Diagnosis, run=run)


router = APIRouter(prefix="/diagnoses", tags=["diagnoses"], responses=documented(401, 403, 422, 503))


@router.post("", status_code=201, responses=documented(400))
async def post_diagnosis(ask: AsViewer, house: TheHouse, body: DiagnosisBody, key: Key) -> Diagnosis:
    """The verdict first, then the four checks it rests on, each with its evidence."""
    return await make_diagnosis(house, ask, body, key)
