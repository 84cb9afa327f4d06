"""Between a patched SteVe and the hook everything goes wrong that can: the card charges, and nobody is logged in."""

from collections.abc import AsyncIterator

import pytest

from tests.databases import fresh_database
from tests.infra import Infra
from tests.integration.services.preauth.scenarios.conftest import HOOK
from tests.integration.services.preauth.scenarios.front import (
    Fault,
    answer_held,
    answers,
    question_held,
    tampered,
    wrongly_signed,
)
from tests.integration.services.preauth.scenarios.site import Site, built

BUDGET_S = 1.0
LONGER_S = 1.4

FAULTS = {
    "the call is late": (question_held(LONGER_S), "timeout"),
    "500": (answers(500, b'{"error":"internal"}'), "status 500"),
    "503 with a page": (answers(503, b"<html>busy</html>"), "status 503"),
    "a 201 that blocks": (answers(201, b'{"override":"BLOCKED"}'), "status 201"),
    "no JSON": (answers(200, b'{"override":"BLOCKED"'), "bad body"),
    "another JSON": (answers(200, b"[]"), "bad body"),
    "another type": (answers(200, b'{"override":true}'), "bad body"),
    "another word": (answers(200, b'{"override":"ACCEPTED"}'), "none"),
    "nothing": (answers(200, b""), "bad body"),
    "a wrong signature": (wrongly_signed, "status 401"),
    "another card put in": (tampered, "status 401"),
}


@pytest.fixture(scope="module")
async def site(infra: Infra, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    with fresh_database(infra.postgres.url, ["preauth"]) as database:
        folder = tmp_path_factory.mktemp("site")
        async with built(HOOK, database, folder, budget_ms=int(BUDGET_S * 1000)) as site:
            yield site


@pytest.mark.parametrize(("fault", "outcome"), FAULTS.values(), ids=FAULTS)
async def test_a_hook_that_fails_lets_charge(
    site: Site, charger_id: str, card: str, fault: Fault, outcome: str
) -> None:
    """SteVe's own verdict stands, it charges, the scan takes nobody, and goes on waiting for a tap that is told."""
    assert site.steve.hook is not None
    other = site.new_card()
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        pairing_id = await kiosk.arm(charger_id)
        before = site.steve.hook.outcomes[outcome]
        site.front.fault = fault
        try:
            tap = await charger.tap(1, card)
        finally:
            site.front.fault = None
        assert (tap.authorize, tap.charging) == ("Accepted", True)
        assert site.steve.hook.outcomes[outcome] == before + 2, site.steve.hook.outcomes
        assert (await kiosk.log_in(pairing_id)).json()["code"] == "not_scanned"
        assert site.events("scan.intercepted", pairing_id) == []
        assert (await charger.tap(2, other)).authorize == "Blocked"
        await kiosk.notified(pairing_id, "intercepted")
    assert site.events("scan.intercepted", pairing_id)[0]["data"]["id_tag"] == other


async def test_an_answer_that_is_late_on_its_way(site: Site, charger_id: str, card: str) -> None:
    """Blocked was told in time, but SteVe had stopped waiting: it charges, once, and the journal has what was told."""
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        pairing_id = await kiosk.arm(charger_id)
        site.front.fault = answer_held(LONGER_S)
        try:
            tap = await charger.tap(1, card)
        finally:
            site.front.fault = None
        assert (tap.authorize, tap.charging) == ("Accepted", True)
        assert [(one["reason"], one["told"]) for one in await site.taps(charger_id)] == [("matched", "blocked")]
        # The one who tapped stands at this page: one login at most, as for every tap.
        logins = [(await kiosk.log_in(pairing_id)).status_code for _ in range(2)]
    assert set(logins) == {200}
    assert (site.logins(pairing_id), site.sessions(charger_id)) == (1, 1)
