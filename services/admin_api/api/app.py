"""The JSON API: every resource, one description, one way to refuse."""

from typing import Any, Final

from fastapi import APIRouter, FastAPI

from services.admin_api.api import (
    audit,
    card_changes,
    cards,
    chargers,
    customers,
    diagnoses,
    held,
    interception,
    kiosks,
    operators,
    overview,
    pairings,
    problems,
    reconciliation,
    runs,
    session,
    sessions,
    taps,
    tokens,
    upstreams,
    webhooks,
)
from services.admin_api.api.problems import ProblemBody
from services.admin_api.house import House
from shared.bus.housekeeping import RESULTS_KEPT

VERSION: Final = "1"
OPENAPI_PATH: Final = "/api/openapi.json"
_RESOURCES: Final = (
    session, overview, cards, card_changes, customers, sessions, held, runs, reconciliation, taps, pairings, chargers,
    kiosks, interception, diagnoses, audit, upstreams, webhooks, tokens, operators,
)  # fmt: skip
_ABOUT: Final = f"""
What operators see and do, as JSON: the console's pages are twins of these resources.

Every refusal is a problem detail (RFC 9457). A part that nobody could answer says `"answered": false`; a request whose
owner did not answer is 504 `unknown`, and a change may be repeated with the same `Idempotency-Key` to find out,
within {RESULTS_KEPT.days} days.
Energies are integer Wh, times are UTC, lists are read on by `next_cursor`.
"""


def create_api(house: House | None = None) -> FastAPI:
    """The application; without a `house` it can only describe itself."""
    app = FastAPI(
        title="ExpresSync",
        version=VERSION,
        description=_ABOUT.strip(),
        openapi_url=OPENAPI_PATH,
        docs_url=None,
        redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        separate_input_output_schemas=False,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.house = house
    problems.install(app)
    v1 = APIRouter(prefix="/api/v1")
    for resource in _RESOURCES:
        v1.include_router(resource.router)
    app.include_router(v1)
    _describe_problems(app)
    return app


def openapi_document() -> dict[str, Any]:
    """The API's description (OpenAPI 3.1), without anything running."""
    return create_api().openapi()


def _describe_problems(app: FastAPI) -> None:
    """Add the schema that all refusals refer to, and take away FastAPI's own form of a 422, which is never sent."""
    described = app.openapi

    def with_problems() -> dict[str, Any]:
        document = described()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas[ProblemBody.__name__] = ProblemBody.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        return document

    app.openapi = with_problems  # type: ignore[method-assign]
