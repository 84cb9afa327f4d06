"""Bad JSON, oversized bodies, wrong passwords: a clear error, a line of log, nothing changed."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.integration.services.admin_api.console import Console
from tests.integration.services.admin_api.support import TABLES, House

SECRET = "do-not-log-this"
SESSION, DIAGNOSES, TOKENS, SIGN_IN = "/api/v1/session", "/api/v1/diagnoses", "/api/v1/tokens", "/sign-in"
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
LARGE = b"x" * 70_000
# Counting attempts is what keeps the next guess out.
COUNTED = "sign_in_guard"


async def everything(house: House) -> dict[str, list[Any]]:
    return {table: await house.sql(f"SELECT * FROM {table}") for table in TABLES if table != COUNTED}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        pytest.param(SESSION, b"{", JSON, 400, "invalid_json", id="API, JSON"),
        pytest.param(
            SESSION,
            json.dumps({"name": "admin", "password": [SECRET]}).encode(),
            JSON,
            422,
            "invalid_request",
            id="API, form",
        ),
        pytest.param(
            SESSION,
            json.dumps({"name": "admin", "password": SECRET}).encode(),
            JSON,
            401,
            "sign_in_refused",
            id="API, sign-in",
        ),
        pytest.param(DIAGNOSES, LARGE, JSON, 413, "body_too_large", id="API, size"),
        pytest.param(TOKENS, b"{}", {**JSON, "authorization": f"Bearer {SECRET}"}, 401, "bad_token", id="API, token"),
        pytest.param(SIGN_IN, LARGE, FORM, 413, "body_too_large", id="console, size"),
        pytest.param(
            SIGN_IN, f"name=admin&password={SECRET}".encode(), FORM, 403, "foreign_form", id="console, foreign form"
        ),
    ],
)
async def test_what_cannot_be_taken_is_refused_logged_and_changes_nothing(  # noqa: PLR0917 - a case
    admin: House, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    """Each refusal has a code, which is in the log with its path, and nothing of what was sent."""
    before = await everything(admin)
    with capture_logs() as lines:
        answer = await admin.client().post(f"{path}?next={SECRET}", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    [line] = [line for line in lines if line.get("action") == "http.refused"]
    assert (line["code"], line["path"]) == (code, path)
    assert SECRET not in str(lines)
    assert await everything(admin) == before


async def test_a_wrong_password_in_the_console_is_logged(admin: House) -> None:
    """The form comes back with the reason, and the log has a line about it."""
    with capture_logs() as lines:
        answer = await Console(admin).sign_in(password=SECRET)
    [line] = [line for line in lines if line.get("action") == "http.refused"]
    assert (answer.status_code, line["code"], line["path"]) == (401, "sign_in_refused", SIGN_IN)
    assert SECRET not in str(lines)
