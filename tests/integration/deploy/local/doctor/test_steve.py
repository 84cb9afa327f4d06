import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deploy.demo.steve.faults import Fault, FaultName
from deploy.demo.steve.settings import MissingCredentials, SteveSettings, SteveVersion
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from deploy.local.doctor.examination import DEADLINE_S
from deploy.local.doctor.result import Result
from deploy.local.doctor.steve import ask as asking
from deploy.local.doctor.steve.ask import check
from deploy.local.doctor.target import Target
from deploy.local.doctor.upstream import TIMEOUT_S
from deploy.local.home import Home
from tests.integration.deploy.local.doctor.conftest import SECRET, answers, by_id

PREFIX = "EXPRESSYNC_SYNC_STEVE_"


async def ask(steve: SteveSimulator, **given: str) -> list[Result]:
    settings = {"url": steve.rest_url, "user": "steve", "password": SECRET, "version": "3.15", **given}
    variables = {f"{PREFIX}{name.upper()}": value for name, value in settings.items() if value}
    results = await check(Target(Home.of("live"), None, variables))
    assert SECRET not in str(results)
    return results


@asynccontextmanager
async def steve(*faults: Fault, **settings: Any) -> AsyncIterator[SteveSimulator]:  # noqa: ANN401 - its own
    """A SteVe whose API password, or API key before 3.8, is the secret."""
    given = {"password": SECRET, "api_key": SECRET, "auth_delay_ms": 0, **settings}
    async with run_steve(SteveSettings(**given), list(faults)) as running:
        yield running


def charged(running: SteveSimulator) -> None:
    """A transaction of today, so that abilities can be seen."""
    running.state.add_charger("CP-1")
    running.state.add_tag("CARD-1")
    now = running.settings.clock()
    running.state.start_transaction(charge_box_id="CP-1", connector_id=1, id_tag="CARD-1", start_at=now, start_wh=0)


async def test_a_steve_that_lets_us_in_is_fine_and_its_scheme_is_named() -> None:
    """HTTP Basic works on a present SteVe."""
    async with steve() as running:
        results = await ask(running)
    assert set(answers(results).values()) == {"yes"}
    assert "HTTP Basic works" in results[1].why


async def test_what_a_steve_can_do_is_seen_without_changing_anything() -> None:
    """Lists, operations and details are seen by questions that only read; no POST is ever sent."""
    async with steve() as running:
        charged(running)
        results = await ask(running)
        asked = {route.split(" ")[0] for route in running.state.requests}
    assert "lists of transactions, operations, a transaction's details" in results[2].why
    assert asked == {"GET", "OPTIONS"}


@pytest.mark.parametrize(
    ("real", "configured", "answer", "words"),
    [
        ((3, 8), "3.12", "no", "no lists of transactions and no operations and no a transaction's details"),
        ((3, 11), "3.12", "no", "no a transaction's details"),
        ((3, 8), "3.8", "yes", "one transaction at a time"),
        ((3, 15), "3.8", "yes", "may be set higher"),
    ],
)
async def test_a_release_that_promises_too_much_is_found(
    real: tuple[int, int], configured: str, answer: str, words: str
) -> None:
    """The configured release is compared with what this SteVe really does."""
    async with steve(version=SteveVersion(*real)) as running:
        charged(running)
        found = (await ask(running, version=configured))[2]
    assert found.answer == answer
    assert words in found.why


async def test_a_wrong_password_is_a_finding_about_credentials() -> None:
    """SteVe answers, and lets nobody in with them."""
    async with steve(password="another") as running:
        results = await ask(running)
    assert answers(results) == {"reachable": "yes", "authorised": "no", "version": "unknown"}
    assert "401" in results[1].why


@pytest.mark.parametrize("refusal", ["401", "403", "redirect"])
async def test_an_old_steve_that_wants_its_api_key_is_recognised(refusal: MissingCredentials) -> None:
    """SteVe 3.7 knows no HTTP Basic; that the secret would work as STEVE-API-KEY is said, however it refuses."""
    async with steve(version=SteveVersion(3, 7), missing_credentials=refusal) as running:
        found = by_id(await ask(running))["steve.authorised"]
    assert found.answer == "no"
    assert "STEVE-API-KEY with the password works: this is SteVe 3.6 or 3.7" in found.why
    assert "EXPRESSYNC_SYNC_STEVE_API_KEY" in (found.remedy or "")


async def test_an_api_key_for_a_present_steve_is_recognised() -> None:
    """SteVe 3.8 and later knows no STEVE-API-KEY; that the secret would work as a password is said."""
    async with steve() as running:
        with_user = by_id(await ask(running, password="", api_key=SECRET))["steve.authorised"]
        without = by_id(await ask(running, user="", password="", api_key=SECRET))["steve.authorised"]
    assert "HTTP Basic with the value of EXPRESSYNC_SYNC_STEVE_API_KEY works" in with_user.why
    assert without.answer == "no"
    assert "3.8 and later takes EXPRESSYNC_SYNC_STEVE_USER" in (without.remedy or "")


async def test_with_both_schemes_set_the_one_that_works_is_named() -> None:
    """Both may be set, as during an upgrade: it works, and the idle one is named."""
    async with steve(version=SteveVersion(3, 7)) as running:
        results = await ask(running, password="another", api_key=SECRET, version="3.7")
    assert results[1].answer == "yes"
    assert "STEVE-API-KEY works. HTTP Basic is set as well, and does not" in results[1].why


@pytest.mark.parametrize(
    ("fault", "value", "expected", "words"),
    [
        ("login_redirect", None, "yes no unknown", "redirects to /steve/manager/signin"),
        ("html", None, "no unknown unknown", "answered 502, not in JSON"),
        ("5xx", 503, "no unknown unknown", "answered 503"),
        ("down", None, "no unknown unknown", "cannot be reached"),
    ],
)
async def test_what_stands_in_the_way_is_named_as_what_it_is(
    fault: FaultName, value: int | None, expected: str, words: str
) -> None:
    """A login page, a proxy's error page, a failure and a dropped connection are told apart."""
    async with steve(Fault(name=fault, value=value)) as running:
        results = await ask(running)
    assert " ".join(one.answer for one in results) == expected
    assert words in next(one for one in results if one.answer == "no").why


async def test_a_page_instead_of_the_api_is_named() -> None:
    """An address where a web page answers 200 is a wrong address, and no unknown error."""
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(page)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        results = await check(
            Target(Home.of("live"), None, {f"{PREFIX}URL": url, f"{PREFIX}USER": "x", f"{PREFIX}PASSWORD": SECRET})
        )
    assert " ".join(one.answer for one in results) == "yes no unknown"
    assert "text/html instead of JSON" in results[1].why
    assert f"{PREFIX}URL" in (results[1].remedy or "")


async def test_a_steve_that_is_off_and_one_that_says_nothing_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused at once, or silent for ever: the check is over within its deadline, with what happened."""
    assert TIMEOUT_S < DEADLINE_S
    monkeypatch.setattr(asking, "TIMEOUT_S", 0.5)
    async with steve() as running:
        await running.stop_rest()
        off = await ask(running)
    assert answers(off) == {"reachable": "no", "authorised": "unknown", "version": "unknown"}
    async with steve(Fault(name="slow", value=60_000)) as running:
        async with asyncio.timeout(5):
            silent = await ask(running)
    assert "did not answer in time" in silent[0].why


@pytest.mark.parametrize("url", ["", "steve.example.com", "http://[", "http://x:port"])
async def test_an_address_that_is_none_is_told(url: str) -> None:
    """A missing or malformed address ends in a finding and not in an error."""
    results = await check(Target(Home.of("live"), None, {f"{PREFIX}URL": url}))
    assert [one.answer for one in results] == ["no", "unknown", "unknown"]
    assert f"{PREFIX}URL" in (results[0].remedy or "")


@pytest.mark.parametrize("key", ["kéÿ…", "key\n"])
async def test_a_key_that_no_header_can_carry_is_told(key: str) -> None:
    """A pasted line break or a letter that is none of ASCII ends in a remedy and not in an error."""
    variables = {f"{PREFIX}URL": "http://127.0.0.1:1", f"{PREFIX}API_KEY": key}
    results = await check(Target(Home.of("live"), None, variables))
    assert {one.answer for one in results} == {"unknown"}
    assert f"{PREFIX}API_KEY" in (results[0].remedy or "")
