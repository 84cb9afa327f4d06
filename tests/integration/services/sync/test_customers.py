"""What is asked of Lago about customers."""

import pytest

from deploy.demo.lago import LagoSettings
from shared.contracts.requests.sync import SearchCustomers
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


async def test_a_customer_is_asked_for_by_its_own_id(build_world: Build) -> None:
    """An old customer `12` comes after all that were made since and have a 12 in their id; asked for alone, it is there
    with its subscription. One of an id that nobody has is none.
    """
    old = [{"external_id": "12", "name": "Old GmbH"}, {"external_id": "1.2", "name": "Dot GmbH"}]
    new = [{"external_id": f"12{n}", "name": None} for n in range(20)]
    subscription = {"external_id": "sub_12", "external_customer_id": "12", "plan_code": "ev"}
    seed = {**LAGO_SEED, "customers": [*LAGO_SEED["customers"], *new, *old]}
    seed["subscriptions"] = [*LAGO_SEED["subscriptions"], subscription]
    world = await build_world(lago=LagoSettings(seed=seed))

    async def found(**asked: str) -> list[str]:
        page = await world.rooms.links.search_customers(SearchCustomers(**asked), ADA)
        assert page.answered
        return [
            "/".join([one.external_customer_id, *(each.external_subscription_id for each in one.subscriptions)])
            for one in page.customers
        ]

    assert "12/sub_12" not in await found(text="12")
    assert await found(external_customer_id="12") == ["12/sub_12"]
    assert await found(external_customer_id="1.2") == ["1.2"]
    assert await found(external_customer_id="2") == []
