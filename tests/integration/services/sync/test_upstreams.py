"""SteVe and Lago in every bad state: named, told once, no work lost, no secret in a log."""

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack

import pytest
import sqlalchemy as sa

from deploy.demo.steve.settings import SteveSettings, SteveVersion
from services.sync.upstreams.errors import UpstreamError
from services.sync.upstreams.health import UPSTREAMS
from shared.contracts.requests.sync import GetUpstreams, ReadCardInSteve
from tests.integration.services.sync.conftest import ADA, Build, World, a_replica

SECRETS = ("pa55word-of-steve", "key-of-steve", "lago-simulator-key")


async def write_health(world: World) -> dict[str, tuple[str, str | None]]:
    """What the running service would write now, and what it then answers."""
    for name in UPSTREAMS:
        await world.rooms.health._write(name)
    answer = await world.rooms.health.get_upstreams(GetUpstreams(), ADA)
    return {one.upstream: (one.state, one.reason) for one in answer.upstreams}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("down", "unreachable"),
        ("5xx", "server_error"),
        ("html", "server_error"),
        ("login_redirect", "redirected"),
        ("wrong_credentials", "unauthorized"),
        ("forbidden", "forbidden"),
        ("not_json", "not_json"),
        ("slow", "timed_out"),
    ],
)
async def test_a_steve_that_fails_is_lost_by_name_and_comes_back(build_world: Build, fault: str, reason: str) -> None:
    """Each fault has its name; it is told once, and so is the recovery; the work is done then, and meanwhile nobody
    hammers at it.
    """
    world = await build_world(steve_timeout_s=0.3 if fault == "slow" else 10)
    await world.link("A")
    world.charge("A", 1_000)
    await world.rooms.runner.turn()
    await write_health(world)
    world.charge("A", 1_000)
    world.clock.advance(seconds=30)
    world.steve.faults.set(fault, 600 if fault == "slow" else None)  # type: ignore[arg-type]
    before = world.steve.state.requests.total()
    for _ in range(5):
        with contextlib.suppress(UpstreamError):
            await world.rooms.runner.turn()
        world.clock.advance(seconds=30)
    assert (await write_health(world))["steve"] == ("lost", reason)
    # A redirect is not followed either.
    assert world.steve.state.requests.total() - before <= 5
    await write_health(world)
    world.steve.faults.clear()
    # What it was slow with is over.
    await asyncio.sleep(0.7 if fault == "slow" else 0)
    world.rooms.steve._caller._breaker.succeeded()
    await world.rooms.runner.turn()
    assert (await write_health(world))["steve"] == ("ok", None)
    told = await world.events("upstream.lost", "upstream.recovered")
    assert [one.type for one in told] == ["upstream.lost", "upstream.recovered"]
    assert told[0].data["reason"] == reason
    assert world.counted() == (2_000, 2)


async def make_old(world: World) -> None:
    """What was told was told a minute earlier."""
    async with world.service.database.write() as tx:
        await tx.execute(sa.text("UPDATE sync.upstream SET told_at = told_at - interval '1 minute'"))


async def test_a_loss_is_for_whoever_told_of_it_to_end(world: World) -> None:
    """A replica for which all is well, because it did not try what fails, does not tell of a recovery each time; where
    the one that told of the loss has died, it does.
    """
    async with AsyncExitStack() as stack:
        _, second = await a_replica(stack, world.settings, world.clock)
        first, objection = world.rooms.health, UpstreamError("lago", "server_error", "answers 500 to events")
        for _ in range(2):
            first.object_to("lago", "events", objection)
        second.health.note("lago", None)
        for _ in range(3):
            # Nobody asks meanwhile: its circuit is open.
            await first._write("lago")
            second.health.note("lago", None)
            await second.health._write("lago")
            await make_old(world)
            world.clock.advance(seconds=6)
        assert [one.type for one in await world.events("upstream.lost", "upstream.recovered")] == ["upstream.lost"]
        await second.health._write("lago")
        assert [one.type for one in await world.events("upstream.recovered")] == ["upstream.recovered"]
        first.object_to("lago", "events", None)
        await first._write("lago")
        assert len(await world.events("upstream.lost", "upstream.recovered")) == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("down", "unreachable"),
        ("html_502", "server_error"),
        ("login_redirect", "redirected"),
        ("http_503", "server_error"),
        ("http_401", "unauthorized"),
        ("http_403", "forbidden"),
        ("no_route", "no_such_route"),
        ("not_json", "not_json"),
        ("slow", "timed_out"),
    ],
)
async def test_a_lago_that_fails_is_lost_by_name_and_comes_back(
    build_world: Build, capsys: pytest.CaptureFixture[str], fault: str, reason: str
) -> None:
    """Each fault of Lago's has its name, and no session is called unsubscribed by it; it is billed afterwards. The key
    stands in no log and no event.
    """
    world = await build_world(lago_timeout_s=0.3 if fault == "slow" else 10)
    await world.link("A")
    await write_health(world)
    pk = world.charge("A", 1_000).pk
    world.lago.faults.add(fault, 600 if fault == "slow" else 0)
    for _ in range(4):
        with contextlib.suppress(UpstreamError):
            await world.turn()
        world.clock.advance(minutes=6)
    assert (await write_health(world))["lago"] == ("lost", reason)
    assert (await world.session(pk)).billing == "pending"
    world.lago.faults.clear()
    await asyncio.sleep(0.7 if fault == "slow" else 0)
    world.rooms.lago._caller._breaker.succeeded()
    await world.turn()
    assert world.counted() == (1_000, 1)
    assert (await write_health(world))["lago"] == ("ok", None)
    told = await world.events("upstream.lost", "upstream.recovered")
    assert [(one.type, one.data["upstream"]) for one in told] == [
        ("upstream.lost", "lago"),
        ("upstream.recovered", "lago"),
    ]
    assert world.lago.api_key not in "".join(capsys.readouterr()) + str(await world.events())


async def test_lago_is_asked_no_more_often_than_it_is_set(build_world: Build) -> None:
    """However much there is to ask at once: two of twenty a second go, the others are spread out, and all are asked."""
    world = await build_world(lago_requests_per_s=20)
    before, begun = world.lago.requests.total, time.monotonic()
    await asyncio.gather(*(world.rooms.lago.organization() for _ in range(12)))
    assert time.monotonic() - begun > 0.45
    assert world.lago.requests.total == before + 12


async def test_a_wrong_address_is_no_answer_about_a_subscription(build_world: Build) -> None:
    """A gateway, or a wrong base path, answers 404 in JSON to everything: no link ends, no card is blocked, and what
    was on its way waits.
    """
    world = await build_world(card_policy="enforce")
    await world.link("A")
    await world.turn()
    pk = world.charge("A", 1_000).pk
    await world.rooms.poller.poll()
    await world.rooms.settler.settle()
    world.lago.faults.add("no_route")
    for _ in range(3):
        world.clock.advance(minutes=31)
        await world.rooms.follow.follow()
        with contextlib.suppress(UpstreamError):
            await world.rooms.delivery.deliver()
        await world.rooms.policy.enforce()
        assert (await write_health(world))["lago"] == ("lost", "no_such_route")
    assert await world.rows("SELECT 1 FROM sync.link WHERE valid_to IS NULL")
    tag = world.steve.state.tag("A")
    assert tag is not None
    assert tag.limit != 0
    assert [one.state for one in await world.entries(pk)] != ["held"]
    assert (await world.session(pk)).hold_reason is None
    world.lago.faults.clear()
    world.rooms.lago._caller._breaker.succeeded()
    world.clock.advance(minutes=6)
    await world.turn()
    assert world.counted() == (1_000, 1)


async def test_a_steve_of_another_release_is_named(build_world: Build) -> None:
    """A SteVe that is said to be newer than it is refuses what it is asked: nothing is read, and that is said."""
    steve = SteveSettings(auth_delay_ms=0, version=SteveVersion.parse("3.8"))
    world = await build_world(steve=steve, steve_version="3.15")
    world.charge("A", 1_000)
    with pytest.raises(UpstreamError):
        await world.rooms.runner.turn()
    # That it answers other calls does not change it.
    await world.rooms.mirror.refresh()
    assert (await write_health(world))["steve"] == ("lost", "reading_refused")
    [lost] = await world.events("upstream.lost")
    assert "release" in lost.data["explanation"]


async def test_incremental_billing_needs_a_steve_with_readings(build_world: Build) -> None:
    """Before 3.12 SteVe's API has no meter values: the setting would do nothing, so the service does not start."""
    with pytest.raises(ValueError, match=r"since 3\.12"):
        await build_world(steve_version="3.11", incremental_minutes=15)


async def test_wrong_credentials_are_named_and_not_written_down(
    build_world: Build, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong password is a fault of configuration; it stands in no log, no event and no answer."""
    world = await build_world(steve_password=SECRETS[0], steve_api_key=SECRETS[1])
    for _ in range(3):
        with contextlib.suppress(UpstreamError):
            await world.rooms.runner.turn()
        world.clock.advance(seconds=30)
    assert (await write_health(world))["steve"] == ("lost", "unauthorized")
    answer = await world.rooms.card_queries.read_card_in_steve(ReadCardInSteve(id_tag="A"), ADA)
    assert not answer.answered
    assert "credentials" in (answer.problem or "")
    written = caplog.text + "".join(capsys.readouterr()) + str(await world.events()) + str(answer)
    assert not any(secret in written for secret in SECRETS)


@pytest.mark.parametrize(
    ("version", "given"),
    [
        ("3.6", {"steve_user": "", "steve_password": "", "steve_api_key": "key-of-steve"}),
        ("3.7", {"steve_user": "", "steve_password": "", "steve_api_key": "key-of-steve"}),
        ("3.8", {}),
        ("3.10", {}),
        ("3.11", {}),
        ("3.12", {}),
        ("3.13", {}),
        ("3.14", {}),
        ("3.15", {}),
    ],
)
async def test_every_release_of_steve_is_understood(build_world: Build, version: str, given: dict[str, str]) -> None:
    """By API key or by password, with lists or one by one: all sessions are found, gaps and open ones included."""
    steve = SteveSettings(auth_delay_ms=0, version=SteveVersion.parse(version), api_key="key-of-steve")
    world = await build_world(steve=steve, steve_version=version, **given)
    await world.link("A")
    for _ in range(12):
        world.charge("A", 1_000)
    world.steve.state.skip_transaction_pks(3)
    running = world.charge("A", None)
    await world.turn()
    world.steve.state.stop_by_station(
        charge_box_id="CP-1",
        pk=running.pk,
        stop_at=running.start_at,
        stop_wh=int(running.start_value),
        reason=None,
    )
    world.clock.advance(minutes=2)
    await world.turn()
    assert world.counted() == (12_000, 12)
    assert (await world.session(running.pk)).hold_reason == "no_energy"
