"""The first operator: made by a command, with a password that is shown once."""

import json
import os
from pathlib import Path

from tests.commands import command
from tests.integration.services.admin_api.support import OWN_PASSWORD, House

ROOT = Path(__file__).parents[4]


async def bootstrap(house: House, *arguments: str, **more: str) -> tuple[int, str, str]:
    env = {
        "PATH": os.environ["PATH"],
        "EXPRESSYNC_ADMIN_API_DATABASE_URL": house.database.url("admin_api"),
        "EXPRESSYNC_AMQP_URL": "amqp://nobody@127.0.0.1:9/",
        **more,
    }
    process = await command("services.admin_api.bootstrap", *arguments, env=env, cwd=ROOT)
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_each_start_gives_a_new_one_time_password_until_one_is_chosen(house: House) -> None:
    """It needs no broker. The last password shown is the one that works; then there is none any more."""
    await house.empty()
    code, out, err = await bootstrap(house, "--json")
    assert (code, err) == (0, "")
    first = json.loads(out)
    assert (first["created"], first["operator"]) == (True, "admin")
    _, out, _ = await bootstrap(house)
    second = out.split()[-1]
    assert second != first["one_time_password"]
    answer = await house.client().post(
        "/api/v1/session", json={"name": "admin", "password": first["one_time_password"], "new_password": OWN_PASSWORD}
    )
    assert answer.status_code == 401
    await house.sign_in("admin", second, new_password=OWN_PASSWORD)
    code, out, _ = await bootstrap(house, "--json")
    assert (code, json.loads(out)) == (0, {"created": False})
    assert second not in str(await house.sql("SELECT * FROM operator")) + str(
        await house.sql("SELECT body FROM outbox")
    )


async def test_without_a_database_it_says_so(house: House) -> None:
    """Three lines and exit 3; a wrong setting is named and is exit 2."""
    nowhere = "postgresql://nobody@127.0.0.1:9/nothing"
    code, out, err = await bootstrap(house, EXPRESSYNC_ADMIN_API_DATABASE_URL=nowhere)
    assert (code, out, len(err.splitlines())) == (3, "", 3), err
    code, _, err = await bootstrap(house, EXPRESSYNC_ADMIN_API_PROT="1")
    assert (code, "EXPRESSYNC_ADMIN_API_PORT" in err) == (2, True)
