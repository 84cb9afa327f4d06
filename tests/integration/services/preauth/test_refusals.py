"""Bad signatures, bad JSON and oversized bodies: a clear error, a line of log, nothing changed, for all who come in."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from shared.web.signatures import hex_hmac
from tests.integration.services.preauth.world import KEY, Preauth

HOOK, PAIRINGS, SCAN = "/api/ocpp/pre-authorize", "/api/pairings", "/scan"
SECRET = "do-not-log-this"
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
TABLES = ("tap", "pairing", "driver_session", "outbox", "request_result")


def signed(body: bytes) -> dict[str, str]:
    return {"X-Signature": hex_hmac(KEY.encode(), body)}


def everything(preauth: Preauth) -> dict[str, list[dict[str, Any]]]:
    return {table: preauth.rows(f"SELECT * FROM {table}") for table in TABLES}


LARGE = b"x" * 200_000
CALL = json.dumps({"idTag": SECRET}).encode()


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code", "action"),
    [
        pytest.param(HOOK, CALL, {"X-Signature": "00" * 32}, 401, "unauthorized", "hook.refused", id="hook, signature"),
        pytest.param(HOOK, b"{", signed(b"{"), 400, "invalid_json", "hook.refused", id="hook, JSON"),
        pytest.param(HOOK, CALL, signed(CALL), 400, "invalid_body", "hook.refused", id="hook, form"),
        pytest.param(HOOK, LARGE, signed(LARGE), 413, "body_too_large", "hook.refused", id="hook, size"),
        pytest.param(PAIRINGS, b"{", JSON, 400, "invalid_body", "http.refused", id="driver API, JSON"),
        pytest.param(
            PAIRINGS,
            json.dumps({"charge_box_id": "CP", "key": [SECRET]}).encode(),
            JSON,
            400,
            "invalid_body",
            "http.refused",
            id="driver API, form",
        ),
        pytest.param(PAIRINGS, LARGE, JSON, 413, "body_too_large", "http.refused", id="driver API, size"),
        pytest.param(
            PAIRINGS,
            b"{}",
            {**JSON, "origin": "https://elsewhere.example"},
            403,
            "forbidden",
            "http.refused",
            id="driver API, another site",
        ),
        pytest.param(SCAN, LARGE, FORM, 413, "body_too_large", "http.refused", id="driver pages, size"),
        pytest.param(
            SCAN,
            f"do=complete&scan=x&pin={SECRET}".encode(),
            FORM,
            404,
            "no_such_scan",
            "http.refused",
            id="driver pages, scan",
        ),
    ],
)
async def test_what_cannot_be_taken_is_refused_logged_and_changes_nothing(  # noqa: PLR0917 - a case
    preauth: Preauth, path: str, body: bytes, headers: dict[str, str], status: int, code: str, action: str
) -> None:
    """Each refusal says why by a code, also in the log, with nothing of what was sent in it."""
    before = everything(preauth)
    with capture_logs() as lines:
        response = await preauth.http.post(f"{path}?key={SECRET}", content=body, headers=headers)
    assert response.status_code == status
    if response.headers["content-type"].endswith("json"):
        assert code in (response.json().get("code"), response.json().get("error"))
    [line] = [line for line in lines if line.get("action") == action]
    assert line["code"] == code
    assert SECRET not in str(lines)
    assert everything(preauth) == before
