"""What is asked of Lago about customers."""

import pytest

from deploy.demo.lago import LagoSettings
from shared.contracts.requests.sync_cards import GetPortalUrl
from tests.integration.services.sync.conftest import ADA, LAGO_SEED, Build


@pytest.mark.parametrize(
    ("customer", "words"),
    [("cus_ada", None), ("ada.l", "no portal address for ada.l"), ("nobody.n", "no customer nobody.n")],
)
async def test_a_customer_whose_id_has_a_dot_is_there(build_world: Build, customer: str, words: str | None) -> None:
    """Lago's path to the portal breaks at a dot: that is said, and never that there is no such customer."""
    customers = [*LAGO_SEED["customers"], {"external_id": "ada.l", "name": "Ada"}]
    world = await build_world(lago=LagoSettings(seed={**LAGO_SEED, "customers": customers}))
    answer = await world.rooms.links.get_portal_url(GetPortalUrl(external_customer_id=customer), ADA)
    assert answer.answered
    assert (answer.url is not None) == (words is None)
    assert words is None or words in (answer.problem or "")
