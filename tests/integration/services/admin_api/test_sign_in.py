"""Coming in: names, passwords, one-time passwords, sessions, and what guessing meets."""

import asyncio

import pytest

from tests.integration.services.admin_api.support import OWN_PASSWORD, EventLog, House, change, key, problem
from tests.waiting import until


async def refused(house: House, name: str, password: str, **more: str) -> dict[str, object]:
    answer = await house.client().post("/api/v1/session", json={"name": name, "password": password, **more})
    body: dict[str, object] = answer.json()
    assert answer.status_code >= 400, body
    return body


async def test_a_one_time_password_must_be_replaced_at_the_first_sign_in(house: House) -> None:
    """It lets nobody in by itself; together with a password of one's own it does, once."""
    assert (await refused(house, "admin", house.one_time_password))["code"] == "password_change_required"
    client = await house.sign_in("admin", house.one_time_password, new_password=OWN_PASSWORD)
    me = (await client.get("/api/v1/me")).json()
    assert me == {
        "kind": "operator",
        "name": "admin",
        "role": "admin",
        "must_change_password": False,
        "csrf_token": None,
    }
    assert (await refused(house, "admin", house.one_time_password))["code"] == "sign_in_refused"


async def test_a_one_time_password_expires(house: House) -> None:
    """Not used in time, it is refused with what to do."""
    house.clock.pass_by(hours=73)
    body = await refused(house, "admin", house.one_time_password, new_password=OWN_PASSWORD)
    assert body["code"] == "one_time_password_expired"


@pytest.mark.parametrize("weak", ["short", "aaaaaaaaaaaaaaa", "adminadminadmin"])
async def test_a_weak_password_is_refused_and_nothing_changes(house: House, weak: str) -> None:
    """The one-time password still works after a password that was not good enough."""
    body = await refused(house, "admin", house.one_time_password, new_password=weak)
    assert body["code"] == "weak_password"
    await house.sign_in("admin", house.one_time_password, new_password=OWN_PASSWORD)


async def test_an_unknown_name_and_a_wrong_password_are_told_apart_by_nobody(admin: House) -> None:
    """The same answer, word for word; the audit log does not keep what was typed as a name."""
    assert await refused(admin, "nobody", "whatever it is") == await refused(admin, "admin", "whatever it is")


async def test_passwords_and_tokens_are_stored_only_as_what_verifies_them(admin: House) -> None:
    """Neither the password nor a session's token can be read from the tables."""
    client = await admin.as_admin()
    token = client.headers["Authorization"].removeprefix("Bearer ")
    rows = str(await admin.sql("SELECT * FROM operator")) + str(await admin.sql("SELECT * FROM session"))
    assert OWN_PASSWORD not in rows
    assert token not in rows
    assert "$argon2id$" in rows


async def test_guessing_closes_the_door_for_this_name_from_here(admin: House, told: EventLog) -> None:
    """After five wrong ones even the right password waits, and says how long; then it works again."""
    for _ in range(5):
        await refused(admin, "admin", "wrong password")
    answer = await admin.client().post("/api/v1/session", json={"name": "admin", "password": OWN_PASSWORD})
    body = problem(answer, 429, "too_many_attempts")
    assert answer.headers["Retry-After"] == str(body["retry_after_s"])
    assert 0 < body["retry_after_s"] <= 31
    admin.clock.pass_by(seconds=31)
    await admin.as_admin()

    async def all_told() -> bool:
        return len(told.of("operator.sign_in_refused")) >= 5

    await until(all_told)
    reasons = [envelope.data["reason"] for envelope in told.of("operator.sign_in_refused")]
    assert reasons == ["unknown_or_wrong"] * 4 + ["too_many_attempts"]


async def test_guesses_made_at_the_same_time_cannot_pass_together(admin: House) -> None:
    """Twenty at once count as twenty: at most five are looked at."""
    client = admin.client()
    body = {"name": "admin", "password": "wrong password"}
    answers = await asyncio.gather(*(client.post("/api/v1/session", json=body) for _ in range(20)))
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(401) == 5
    assert statuses.count(429) == 15


async def test_many_names_from_one_place_are_guessing_too(admin: House) -> None:
    """Thirty names tried from one address close it, also for a name that was not tried."""
    for number in range(30):
        await refused(admin, f"somebody{number}", "wrong password")
    assert (await refused(admin, "admin", OWN_PASSWORD))["code"] == "too_many_attempts"


async def test_a_sign_in_is_told_without_what_was_typed(admin: House, told: EventLog) -> None:
    """A name that no operator has may be a password in the wrong field: it goes into no event."""
    await admin.as_admin()
    await refused(admin, "my secret password", "admin")

    async def both() -> bool:
        return bool(told.of("operator.signed_in") and told.of("operator.sign_in_refused"))

    await until(both)
    signed_in, was_refused = told.of("operator.signed_in")[0], told.of("operator.sign_in_refused")[0]
    assert (signed_in.subject, signed_in.actorkind, signed_in.actorid) == ("operator/admin", "operator", "admin")
    assert was_refused.data == {"operator": "?", "reason": "unknown_or_wrong"}
    assert not any(b"my secret password" in body for body in told.bodies)


async def test_a_disabled_operator_is_out_at_once_and_stays_out(admin: House) -> None:
    """The session that was open ends, and the right password is told why it does not help."""
    client = await admin.as_admin()
    made = await change(client, "/operators", {"name": "Vera", "role": "operator"})
    vera = await admin.sign_in("vera", made["one_time_password"], new_password="veras own password")
    assert (await vera.get("/api/v1/me")).status_code == 200
    answer = await client.patch("/api/v1/operators/vera", json={"enabled": False}, headers=key())
    assert answer.json()["enabled"] is False
    problem(await vera.get("/api/v1/me"), 401, "bad_token")
    assert (await refused(admin, "vera", "veras own password"))["code"] == "operator_disabled"
    assert (await refused(admin, "vera", "not her password"))["code"] == "sign_in_refused"


async def test_the_last_administrator_cannot_be_lost(admin: House) -> None:
    """Neither disabled nor made something less, as long as there is no other."""
    client = await admin.as_admin()
    for body in ({"enabled": False}, {"role": "viewer"}):
        problem(await client.patch("/api/v1/operators/admin", json=body, headers=key()), 409, "last_admin")


async def test_a_session_of_the_command_line_ends(admin: House) -> None:
    """After its days, and at once by signing out."""
    client, other = await admin.as_admin(), await admin.as_admin()
    assert (await client.delete("/api/v1/session")).status_code == 204
    problem(await client.get("/api/v1/me"), 401, "bad_token")
    assert (await other.get("/api/v1/me")).status_code == 200
    admin.clock.pass_by(days=31)
    problem(await other.get("/api/v1/me"), 401, "bad_token")
