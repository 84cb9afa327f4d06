"""What of the demo lasts as long as somebody leaves it running."""

import asyncio
import contextlib
import io
import json
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import httpx
import msgspec
import pytest
from rich.console import Console

from deploy.demo.chargers.control import build_control
from deploy.demo.chargers.fleet import Fleet, FleetFile
from deploy.demo.lago import LagoSettings, run_lago
from deploy.demo.steve.listen import HttpListener
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from deploy.demo.story import cast
from deploy.demo.story.play import Check, Story
from deploy.demo.story.stage import Stage
from deploy.demo.story.watch import Watch
from deploy.local import demo
from deploy.local.environment import AMQP
from deploy.local.home import Home
from deploy.local.infra.errors import InfraError
from deploy.local.processes import Program
from deploy.local.stack import Stack
from shared.bus.topology import Topology
from tests.faults.proxy import Proxy
from tests.waiting import until

ROUNDS = 60
NOWHERE = "http://127.0.0.1:9"


@asynccontextmanager
async def stage(*, heeding: bool = True, lago_url: str = NOWHERE) -> AsyncIterator[tuple[SteveSimulator, Stage]]:
    """The story's cards and chargers at a simulated SteVe, behind the doors that this part of it uses.

    Chargers that are not `heeding` charge whatever they are told.
    """
    async with run_steve(SteveSettings(auth_delay_ms=0)) as steve:
        for card in cast.CARDS:
            steve.state.add_tag(card.id_tag, limit=card.limit)
        for charger in cast.CHARGERS:
            steve.state.add_charger(charger)
        chargers = msgspec.convert(cast.fleet_file(1), FleetFile)
        for one in chargers.chargers:
            one.honours_override = heeding
        fleet = Fleet(steve.ocpp_url, chargers, lambda _: None, spread_s=0)
        control = HttpListener(build_control(fleet), "127.0.0.1", 0)
        await control.start()
        running = asyncio.create_task(fleet.run())
        doors = Stage(
            fleet_url=f"http://127.0.0.1:{control.port}",
            admin_url=NOWHERE,
            token="",
            drivers_url=NOWHERE,
            lago_url=lago_url,
            steve_url=steve.rest_url,
            steve_user=("steve", "steve"),
        )
        try:

            async def connected() -> bool:
                return await doors.connected_chargers() == set(cast.CHARGERS)

            await until(connected)
            yield steve, doors
        finally:
            await doors.close()
            running.cancel()
            await asyncio.wait([running])
            await control.stop()


async def test_drivers_come_and_go_for_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions begin and end until the demo is told to stop, and nothing piles up meanwhile."""
    monkeypatch.setattr(demo, "PAUSE_S", (0.005, 0.01))
    told = asyncio.Event()
    async with stage() as (steve, doors):
        stopping = asyncio.create_task(_until_set(told))
        before = len(asyncio.all_tasks())
        going_on = asyncio.create_task(demo.go_on(doors, stopping))

        async def enough() -> bool:
            return len(steve.state.transactions) >= ROUNDS

        await until(enough, within_s=30)
        assert any(not one.active for one in steve.state.transactions.values())
        # Those of the taps that are under way; a round that left one behind would have left dozens.
        assert len(asyncio.all_tasks()) - before < ROUNDS / 2
        told.set()
        await asyncio.wait_for(going_on, 5)


async def _until_set(told: asyncio.Event) -> None:
    await told.wait()


async def test_after_the_story_events_are_shown_and_not_kept(broker: str) -> None:
    """A demo that runs for days tells every event, and holds none of them in memory."""
    shown: list[str] = []
    async with await aio_pika.connect(broker) as connection:
        channel = await connection.channel()
        await Topology().declare(channel)
        exchange = await channel.get_exchange("expressync.events")

        async def happen(kind: str) -> None:
            body = json.dumps({"type": kind, "data": {}}).encode()
            await exchange.publish(aio_pika.Message(body), kind)

        async with Watch(broker, lambda event: shown.append(event["type"])) as watch:
            await happen("tap.decided")
            assert await watch.seen("tap.decided")
            watch.only_show()
            await happen("card.blocked")

            async def was_shown() -> bool:
                return "card.blocked" in shown

            await until(was_shown)
            assert shown == ["tap.decided", "card.blocked"]
            assert watch.events == []


@pytest.fixture
def unstarted(broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[demo.Demo, io.StringIO]:
    """A demo in a folder of its own, and what it says."""
    monkeypatch.setenv("EXPRESSYNC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(AMQP, broker)
    page = io.StringIO()
    return demo.Demo(Console(file=page, width=200)), page


async def test_what_went_wrong_is_said_before_the_story_is_over(
    broker: str, unstarted: tuple[demo.Demo, io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who watches the demo sees no summary: what failed is a line of its own, what passed is none."""

    async def played(_: Story) -> list[Check]:
        return [Check("a tap is decided", passed=True), Check("a Wh is counted", passed=False, found="0 kWh")]

    monkeypatch.setattr(Story, "play", played)
    async with await aio_pika.connect(broker) as connection:
        await Topology().declare(await connection.channel())
    told = threading.Event()
    watched, page = unstarted
    async with stage() as (_, doors):
        playing = asyncio.create_task(demo.play(watched, doors, told, once=False))

        async def over() -> bool:
            return "The story is over" in page.getvalue()

        await until(over)
        told.set()
        await playing
    before, _, _ = page.getvalue().partition("The story is over")
    assert "This went wrong: a Wh is counted: 0 kWh" in before
    assert "a tap is decided" not in before


@pytest.mark.parametrize("heeding", [True, False])
async def test_a_refused_card_that_charges_all_the_same_fails_the_story(*, heeding: bool) -> None:
    """What the charger was told is half of it: some charge whatever they are told."""
    async with stage(heeding=heeding) as (_, doors):
        story = Story(doors, Watch("amqp://nobody/", lambda _: None), lambda _: None)
        # Nobody is there who could diagnose, which comes after the taps.
        with contextlib.suppress(httpx.ConnectError):
            await story.refuse()
        assert [check.passed for check in story.checks] == [heeding, heeding], story.checks


async def test_what_is_counted_twice_after_it_was_right_fails_the_story() -> None:
    """Lago is asked once more at the end: the same session's second event may take its time."""
    async with run_lago(LagoSettings(seed=cast.lago_seed())) as lago, stage(lago_url=lago.url) as (_, doors):
        story = Story(doors, Watch("amqp://nobody/", lambda _: None), lambda _: None)
        story.billed_wh = {str(cast.ADA.subscription): 1500}
        for sent in ("one", "another"):
            event = {
                "transaction_id": sent,
                "external_subscription_id": cast.ADA.subscription,
                "code": "ev_charging_kwh",
                "properties": {"kwh": "1.5"},
            }
            async with httpx.AsyncClient(headers={"Authorization": f"Bearer {lago.api_key}"}) as client:
                (await client.post(f"{lago.url}/api/v1/events", json={"event": event})).raise_for_status()
            await story.count_again()
        assert [check.passed for check in story.checks] == [True, False], story.checks


def test_the_hooks_key_is_in_no_list_of_processes(
    unstarted: tuple[demo.Demo, io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody on the machine may read how a program was started; its environment, its owner alone."""
    begun: list[Program] = []

    def begin(one: Program) -> None:
        begun.append(one)

    monkeypatch.setattr(Program, "start", begin)
    monkeypatch.setattr(Home, "secret", lambda *_: "the-key")
    # As far as the simulators.
    monkeypatch.setattr(Stack, "start", lambda *_, **__: None)
    unstarted[0].start()
    assert [one.name for one in begun] == ["steve", "lago", "chargers"]
    assert not any("the-key" in argument for one in begun for argument in one.arguments)
    assert [one.name for one in begun if "the-key" in one.environment.values()] == ["steve"]


def test_a_program_that_refuses_to_start_is_said_once(
    unstarted: tuple[demo.Demo, io.StringIO], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again and again, beside the story, and refuses for the same reason each time."""
    watched, page = unstarted
    keep_up, refused = watched.stack.keep_up, threading.Semaphore(0)

    def counted() -> None:
        try:
            keep_up()
        except InfraError:
            refused.release()
            raise

    monkeypatch.setattr(watched.stack, "keep_up", counted)
    monkeypatch.setattr(demo, "KEEP_UP_EVERY_S", 0.1)
    refusing = Program("sync", "json.tool", {}, tmp_path / "sync.log", arguments=("--nonsense",))
    refusing.start()
    watched.stack.programs.append(refusing)
    with watched.kept_up():
        for _ in range(4):
            assert refused.acquire(timeout=20)
    assert page.getvalue().count("sync refuses to start.") == 1


async def test_a_broker_that_falls_prints_no_traceback_beside_the_story(
    broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The demo says itself that it was started again; what a library says of it has no place in that terminal."""
    address = urlsplit(broker)
    before = {name: logging.getLogger(name).level for name in demo.LOUD}
    proxy = Proxy(address.hostname or "", address.port or 0)
    await proxy.accept()
    async with await aio_pika.connect(broker) as connection:
        await Topology().declare(await connection.channel())
    try:
        demo.silence()
        url = address._replace(netloc=f"{address.username}:{address.password}@127.0.0.1:{proxy.port}").geturl()
        async with Watch(url, lambda _: None):
            await proxy.refuse()
            await proxy.cut()
            await asyncio.sleep(1)
            accepted = proxy.accepted
            await proxy.accept()

            async def back() -> bool:
                return proxy.accepted > accepted

            await until(back)
        assert [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING] == []
    finally:
        await proxy.close()
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
