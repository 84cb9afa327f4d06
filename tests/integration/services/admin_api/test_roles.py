"""Who may do what: every operation of the API, so that none is forgotten."""

import functools
from typing import Final

import pytest

from services.admin_api.main import openapi_document
from tests.integration.services.admin_api.support import House, key, problem

PREFIX: Final = "/api/v1"
BELOW: Final = {"viewer": (), "operator": ("viewer",), "admin": ("viewer", "operator")}
NEEDED: Final = {
    "viewer": """
        GET /overview GET /upstreams GET /webhooks GET /cards GET /cards/{id_tag} GET /cards/{id_tag}/link-preview
        GET /customers
        GET /sessions GET /sessions/{session} GET /held GET /runs GET /runs/{run_id} POST /reconcile
        GET /reconciliations GET /taps GET /pairings GET /interception GET /chargers
        GET /chargers/{charge_box_id} GET /kiosks POST /diagnoses GET /audit/entries GET /audit/entries/{event_id}
    """,
    "operator": """
        POST /cards PATCH /cards/{id_tag} POST /cards/{id_tag}/block POST /cards/{id_tag}/unblock
        POST /cards/{id_tag}/parent POST /cards/{id_tag}/expiry POST /cards/{id_tag}/link POST /cards/{id_tag}/relink
        POST /cards/{id_tag}/unlink PUT /cards/{id_tag}/pin POST /changes/{change_id}/undo
        GET /customers/{external_customer_id}/portal POST /held/retry POST /held/ignore POST /held/release POST /runs
        PUT /cadence POST /pairings POST /pairings/{pairing_id}/cancel POST /chargers/{charge_box_id}/operations
        GET /chargers/{charge_box_id}/qr PUT /interception POST /webhooks/replay
    """,
    "admin": """
        POST /chargers/{charge_box_id}/qr POST /kiosks POST /kiosks/{kiosk_id}/revoke GET /tokens POST /tokens
        POST /tokens/{token_id}/revoke GET /operators POST /operators PATCH /operators/{name}
        POST /operators/{name}/reset-password
    """,
}
# Anybody: who somebody is, and the sign-in itself.
OPEN: Final = {"GET /me", "POST /session", "DELETE /session"}
CHANGES_NOTHING: Final = {"POST /session", "POST /reconcile"}


# To describe the whole API takes half a second.
DOCUMENT: Final = functools.cache(openapi_document)


def _operations() -> dict[str, str]:
    """Each operation with the role it needs."""
    return {
        f"{method} {path}": role
        for role, text in NEEDED.items()
        for method, path in zip(text.split()[::2], text.split()[1::2], strict=True)
    }


def _described() -> set[str]:
    document = DOCUMENT()
    return {
        f"{method.upper()} {path.removeprefix(PREFIX)}"
        for path, operations in document["paths"].items()
        for method in operations
    }


def _address(path: str) -> str:
    """The path with something of the right form in each place."""
    for name in ("event_id", "token_id", "kiosk_id", "pairing_id", "change_id", "run_id"):
        path = path.replace(f"{{{name}}}", "00000000-0000-4000-8000-000000000001")
    for name in ("id_tag", "charge_box_id", "external_customer_id", "session", "name"):
        path = path.replace(f"{{{name}}}", "X")
    return PREFIX + path


def test_every_operation_has_its_role_here() -> None:
    """A new operation fails this until somebody has said who may use it."""
    assert set(_operations()) | OPEN == _described()


@pytest.mark.parametrize("role", NEEDED)
async def test_operations_are_for_those_who_may(admin: House, role: str) -> None:
    """401 without a token, 403 for each role below, whatever is sent with it; no owner hears of either."""
    nobody, below = admin.client(), [await admin.as_role(lower) for lower in BELOW[role]]
    for operation in (operation for operation, needed in _operations().items() if needed == role):
        method, path = operation.split()
        problem(await nobody.request(method, _address(path), headers=key()), 401, "not_signed_in")
        for client in below:
            problem(await client.request(method, _address(path), headers=key()), 403, "role_too_low")
    assert admin.owners.asked == []


async def test_every_change_needs_a_key(admin: House) -> None:
    """Described as required, and 400 without it, from whoever may; no owner hears of it."""
    client = await admin.as_admin()
    changes = [one for one in _operations() if not one.startswith("GET") and one not in CHANGES_NOTHING]
    assert len(changes) > 20
    for operation in changes:
        method, path = operation.split()
        described = DOCUMENT()["paths"][PREFIX + path][method.lower()]
        headers = {each["name"] for each in described["parameters"] if each["in"] == "header" and each["required"]}
        assert "Idempotency-Key" in headers, operation
        problem(await client.request(method, _address(path), json={}), 400, "idempotency_key_missing")
    assert admin.owners.asked == []
