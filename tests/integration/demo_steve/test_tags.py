from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from deploy.demo.steve.settings import SteveVersion
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from tests.integration.demo_steve.support import QUICK, rest_client

FUTURE = "2099-01-02T03:04:05.678Z"


async def create(rest: httpx.AsyncClient, **form: object) -> dict[str, Any]:
    response = await rest.post("/ocppTags", json=form)
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


async def test_a_created_tag_shows_every_field(rest: httpx.AsyncClient) -> None:
    """POST answers 201 with all fields; what is not set is null, and the limit is one."""
    assert await create(rest, idTag="04A1B2C3") == {
        "ocppTagPk": 1,
        "idTag": "04A1B2C3",
        "userPk": None,
        "parentOcppTagPk": None,
        "parentIdTag": None,
        "inTransaction": False,
        "blocked": False,
        "expiryDate": None,
        "maxActiveTransactionCount": 1,
        "activeTransactionCount": 0,
        "note": None,
    }


async def test_put_replaces_everything(rest: httpx.AsyncClient) -> None:
    """A PUT that leaves fields out clears note, parent and expiry, and unblocks the card."""
    await create(rest, idTag="PARENT")
    tag = await create(
        rest,
        idTag="CARD",
        parentIdTag="PARENT",
        expiryDate=FUTURE,
        note="hello",
        maxActiveTransactionCount=0,
    )
    assert (tag["blocked"], tag["parentOcppTagPk"], tag["expiryDate"]) == (True, 1, FUTURE)
    response = await rest.put(f"/ocppTags/{tag['ocppTagPk']}", json={"idTag": "CARD"})
    after = response.json()
    assert response.status_code == 200
    assert (after["note"], after["parentIdTag"], after["expiryDate"]) == (None, None, None)
    assert (after["maxActiveTransactionCount"], after["blocked"]) == (1, False)


async def test_put_needs_an_id_tag_and_ignores_it(rest: httpx.AsyncClient) -> None:
    """Without idTag a PUT is 400; with another one the tag keeps its own."""
    tag = await create(rest, idTag="CARD")
    path = f"/ocppTags/{tag['ocppTagPk']}"
    assert (await rest.put(path, json={"note": "x"})).status_code == 400
    assert (await rest.put(path, json={"idTag": "OTHER"})).json()["idTag"] == "CARD"


async def test_blocked_is_not_a_field_one_can_set(rest: httpx.AsyncClient) -> None:
    """`blocked` in a form is ignored; a limit of zero is what blocks."""
    assert (await create(rest, idTag="A", blocked=True))["blocked"] is False
    assert (await create(rest, idTag="B", maxActiveTransactionCount=0))["blocked"] is True


async def test_an_expired_tag_cannot_be_put_back_unchanged(steve: SteveSimulator, rest: httpx.AsyncClient) -> None:
    """The expiry of a form must lie in the future, also when it is the one the tag has."""
    tag = steve.state.add_tag("CARD", expiry=datetime.now(UTC) - timedelta(days=1), note="keep me")
    now = (await rest.get(f"/ocppTags/{tag.pk}")).json()
    form = {"idTag": now["idTag"], "expiryDate": now["expiryDate"], "note": now["note"]}
    assert (await rest.put(f"/ocppTags/{tag.pk}", json=form)).status_code == 400
    assert tag.note == "keep me"


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({}, 400),
        ({"idTag": ""}, 400),
        ({"idTag": "x" * 21}, 400),
        ({"idTag": "with space"}, 400),
        ({"idTag": "ok", "expiryDate": "2001-01-01T00:00:00.000Z"}, 400),
        ({"idTag": "ok", "expiryDate": "tomorrow"}, 500),
        ({"idTag": "ok", "maxActiveTransactionCount": "many"}, 500),
        ({"idTag": "TAKEN"}, 422),
        ({"idTag": "taken"}, 422),
        ({"idTag": "ok", "parentIdTag": "NOBODY"}, 422),
    ],
)
async def test_what_post_refuses(
    steve: SteveSimulator, rest: httpx.AsyncClient, form: dict[str, Any], status: int
) -> None:
    """Invalid forms are 400, unreadable values 500, duplicates and unknown parents alike 422."""
    steve.state.add_tag("TAKEN")
    response = await rest.post("/ocppTags", json=form)
    assert response.status_code == status
    assert set(response.json()) == {"timestamp", "status", "error", "message", "path"}
    assert len(steve.state.tags) == 1


async def test_malformed_json_is_a_500(rest: httpx.AsyncClient) -> None:
    """SteVe answers 500 to a body that is no JSON."""
    response = await rest.post("/ocppTags", content=b"{not json", headers={"Content-Type": "application/json"})
    assert response.status_code == 500
    assert response.json()["error"] == "Internal Server Error"


async def test_unknown_keys_are_404_and_bad_ones_400(rest: httpx.AsyncClient) -> None:
    """GET, PUT and DELETE of a key that does not exist are 404; of what is no number 400."""
    assert (await rest.get("/ocppTags/77")).status_code == 404
    assert (await rest.put("/ocppTags/77", json={"idTag": "A"})).status_code == 404
    assert (await rest.delete("/ocppTags/77")).status_code == 404
    assert (await rest.get("/ocppTags/seven")).status_code == 400


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, {"FREE", "BUSY", "BLOCKED", "EXPIRED", "CHILD"}),
        ({"idTag": "free"}, {"FREE"}),
        ({"ocppTagPk": "2"}, {"BUSY"}),
        ({"parentIdTag": "free"}, {"CHILD"}),
        ({"blocked": "TRUE"}, {"BLOCKED"}),
        ({"blocked": "FALSE", "inTransaction": "FALSE", "expired": "FALSE"}, {"FREE", "CHILD"}),
        ({"expired": "TRUE"}, {"EXPIRED"}),
        ({"inTransaction": "TRUE"}, {"BUSY"}),
        ({"note": "lost"}, {"BLOCKED"}),
        ({"userId": "9"}, {"FREE"}),
        ({"userFilter": "OnlyTagsWithUser"}, {"FREE"}),
        ({"userFilter": "OnlyTagsWithoutUser", "blocked": "TRUE"}, {"BLOCKED"}),
        ({"idTag": "nobody"}, set()),
    ],
)
async def test_filters(steve: SteveSimulator, rest: httpx.AsyncClient, query: dict[str, str], found: set[str]) -> None:
    """Each query parameter narrows the list."""
    now = datetime.now(UTC)
    steve.state.add_tag("FREE", user_pk=9)
    steve.state.add_tag("BUSY")
    steve.state.add_tag("BLOCKED", limit=0, note="Card was lost")
    steve.state.add_tag("EXPIRED", expiry=now - timedelta(days=1))
    steve.state.add_tag("CHILD", parent_id_tag="FREE")
    steve.state.add_transaction(charge_box_id="CP-1", id_tag="busy", start_at=now, start_wh=0)
    response = await rest.get("/ocppTags", params=query)
    assert {tag["idTag"] for tag in response.json()} == found


async def test_the_list_has_no_order(steve: SteveSimulator, rest: httpx.AsyncClient) -> None:
    """The list follows neither keys nor names."""
    for number in range(30):
        steve.state.add_tag(f"CARD-{number:02}")
    keys = [tag["ocppTagPk"] for tag in (await rest.get("/ocppTags")).json()]
    assert len(keys) == 30
    assert keys not in (sorted(keys), sorted(keys, reverse=True))


async def test_an_unknown_choice_is_400(rest: httpx.AsyncClient, steve: SteveSimulator) -> None:
    """A filter value outside its list is refused."""
    steve.state.add_tag("A")
    assert (await rest.get("/ocppTags", params={"blocked": "maybe"})).status_code == 400


async def test_delete_takes_the_transactions_along(steve: SteveSimulator, rest: httpx.AsyncClient) -> None:
    """DELETE answers the tag as it was and removes everything charged with it; a parent is a 500."""
    now = datetime.now(UTC)
    steve.state.add_transaction(charge_box_id="CP-1", id_tag="CARD", start_at=now, start_wh=0)
    tag = steve.state.tag("CARD")
    assert tag is not None
    child = steve.state.add_tag("CHILD", parent_id_tag="CARD")
    assert (await rest.delete(f"/ocppTags/{tag.pk}")).status_code == 500
    steve.state.remove_tag(child.pk)
    assert (await rest.delete(f"/ocppTags/{tag.pk}")).json()["activeTransactionCount"] == 1
    assert steve.state.transactions == {}


@pytest.mark.parametrize(("version", "status"), [("3.14", 404), ("3.15", 200)])
async def test_expire_came_after_3_14(version: str, status: int) -> None:
    """PATCH /expire exists only after 3.14.1, and expires the card at once."""
    async with run_steve(replace(QUICK, version=SteveVersion.parse(version))) as steve:
        tag = steve.state.add_tag("CARD", note="stays")
        async with rest_client(steve) as rest:
            response = await rest.patch(f"/ocppTags/{tag.pk}/expire")
        assert response.status_code == status
        assert (tag.expiry is not None) == (status == 200)
        assert tag.note == "stays"
