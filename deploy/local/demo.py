"""`expressync demo`: everything on one machine, with SteVe, Lago and chargers simulated, and a story to watch."""

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
from aio_pika.exceptions import AMQPError
from rich.console import Console
from rich.markup import escape

from deploy.demo.story import cast
from deploy.demo.story.play import Check, Story
from deploy.demo.story.stage import Stage, StageError
from deploy.demo.story.tell import sentence
from deploy.demo.story.watch import Watch
from deploy.local.environment import AMQP
from deploy.local.home import Home
from deploy.local.infra.errors import InfraError
from deploy.local.infra.folder import Folder, free_port
from deploy.local.operator import demo_token, first_operator
from deploy.local.processes import Program, stop_all
from deploy.local.running import noted, until_told
from deploy.local.stack import Stack
from shared.bus import queues

STEVE_PASSWORD: Final = "demo"  # noqa: S105 - of a simulator on loopback
LAGO_KEY: Final = "demo"
PAUSE_S: Final = (2.0, 6.0)
GO_HOME_S: Final = 5.0
KEEP_UP_EVERY_S: Final = 1.0
DRIVERS: Final = (cast.ADA, cast.BEN, cast.CLEO, cast.DAN, cast.EVE)
UNREACHABLE: Final = (AMQPError, OSError, TimeoutError)
# They report a fallen broker with a traceback; the demo itself says when it was started again.
LOUD: Final = ("aio_pika", "aiormq")
COLOURS: Final = {
    "scan": "yellow",
    "tap": "cyan",
    "pairing": "yellow",
    "transaction": "green",
    "card": "blue",
    "upstream": "red",
}


@dataclass(frozen=True, slots=True)
class Ports:
    """Chosen before anything starts, so that everything can start at once."""

    steve: int
    ocpp: int
    lago: int
    fleet: int

    @classmethod
    def choose(cls) -> "Ports":
        return cls(*(free_port() for _ in range(4)))


def refuse_in_use(amqp_url: str) -> None:
    """Queues have fixed names: beside an installation, the demo would take its events, and it the demo's.

    :raises InfraError: when the broker is one that services work with, or does not say whether it is.
    """
    try:
        found = asyncio.run(queues.in_use(amqp_url))
    except UNREACHABLE as error:
        raise InfraError(
            f"The broker in {AMQP} could not be asked whether it is in use.",
            f"{type(error).__name__}: {error}",
            "Start it, correct the address, or leave it out: the demo then has a broker of its own.",
        ) from error
    if found:
        raise InfraError(
            f"The broker in {AMQP} is in use.",
            f"An installation works with {', '.join(found)}, and the demo would take its messages.",
            f"Give a virtual host of the demo's own in {AMQP}, or leave it out: the demo then has a broker of its own.",
        )


class Demo:
    """The stack, the simulators and the fleet."""

    def __init__(self, console: Console) -> None:
        self.home = Home.of("demo")
        self._console = console
        self.ports = Ports.choose()
        # A broker that is given is used; a database never is: the demo's data belong into no other.
        self._given_broker = os.environ.get(AMQP)
        self._uses_given_broker = False
        given = {AMQP: self._given_broker} if self._given_broker else {}
        self.stack = Stack(self.home, given, self.say, any_port=True)
        self._simulators: list[Program] = []

    def say(self, line: str) -> None:
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/]  {escape(line)}", highlight=False, soft_wrap=True)

    def start(self, told: threading.Event | None = None) -> None:
        hook_key = self.home.secret("hook.key")
        if self._given_broker:
            refuse_in_use(self._given_broker)
            self._uses_given_broker = True
        self.stack.choose_ports()
        self._start_simulators(hook_key)
        self.stack.start(
            {
                "EXPRESSYNC_PREAUTH_HOOK_KEYS": hook_key,
                "EXPRESSYNC_SYNC_STEVE_ID": "demo",
                "EXPRESSYNC_SYNC_STEVE_URL": f"http://127.0.0.1:{self.ports.steve}",
                "EXPRESSYNC_SYNC_STEVE_USER": "steve",
                "EXPRESSYNC_SYNC_STEVE_PASSWORD": STEVE_PASSWORD,
                "EXPRESSYNC_SYNC_LAGO_URL": f"http://127.0.0.1:{self.ports.lago}",
                "EXPRESSYNC_SYNC_LAGO_API_KEY": LAGO_KEY,
                "EXPRESSYNC_SYNC_POLL_S": "1",
                "EXPRESSYNC_SYNC_IDLE_POLL_S": "1",
                "EXPRESSYNC_SYNC_DORMANT_POLL_S": "1",
                "EXPRESSYNC_SYNC_CARDS_EVERY_S": "5",
            },
            told=told,
        )

    def _start_simulators(self, hook_key: str) -> None:
        folder, ports = self.home.folder, self.ports
        seeds = Folder(folder)
        steve_seed = seeds.write("steve.json", json.dumps(cast.steve_seed()))
        lago_seed = seeds.write("lago.json", json.dumps(cast.lago_seed()))
        fleet_file = seeds.write("fleet.json", json.dumps(cast.fleet_file(self._count_run(seeds))))
        hook_url = f"http://127.0.0.1:{self.stack.port('preauth')}/api/ocpp/pre-authorize"
        ocpp_url = f"ws://127.0.0.1:{ports.ocpp}/steve/websocket/CentralSystemService"
        self._simulate(
            "steve",
            f"--port={ports.steve}",
            f"--ocpp-port={ports.ocpp}",
            f"--password={STEVE_PASSWORD}",
            f"--hook-url={hook_url}",
            f"--state={folder / 'steve.sqlite'}",
            f"--seed={steve_seed}",
            # Whoever lists the machine's processes reads their arguments.
            secret={"STEVE_SIM_HOOK_KEY": hook_key},
        )
        self._simulate(
            "lago",
            f"--port={ports.lago}",
            f"--api-key={LAGO_KEY}",
            f"--state={folder / 'lago.sqlite'}",
            *(() if (folder / "lago.sqlite").exists() else (f"--seed={lago_seed}",)),
        )
        self._simulate(
            "chargers",
            f"--control-port={ports.fleet}",
            f"--ocpp-url={ocpp_url}",
            f"--fleet={fleet_file}",
            f"--power-w={cast.POWER_W}",
            "--behind-s=0",
            "--factor=1",
            "--json",
        )

    @staticmethod
    def _count_run(folder: Folder) -> int:
        run = (folder.remembered_port("runs") or 0) + 1
        folder.write("runs", str(run))
        return run

    def _simulate(self, name: str, *arguments: str, secret: Mapping[str, str] | None = None) -> None:
        environment = {key: value for key, value in self.stack.base_environment().items() if key != "EXPRESSYNC_HOME"}
        program = Program(
            name=name,
            module=f"deploy.demo.{name}",
            environment={**environment, **(secret or {})},
            log=self.home.logs / f"{name}.log",
            arguments=arguments,
        )
        program.start()
        self._simulators.append(program)

    def keep_up(self) -> None:
        self.stack.keep_up()
        for program in self._simulators:
            if said := program.keep_up():
                self.say(said)

    def stop(self) -> None:
        # The chargers first, while SteVe still takes what they have to say.
        stop_all(self._simulators)
        self.stack.stop()
        # Only from a broker that the demo found free: what is in the queues of one that refused it is not the demo's.
        if self._given_broker and self._uses_given_broker:
            self._leave(self._given_broker)

    def _leave(self, broker: str) -> None:
        """An installation that comes to this broker later must not find the demo's events."""
        with contextlib.suppress(*UNREACHABLE):
            if found := asyncio.run(queues.remove_idle(broker)):
                self.say(f"The queues stay in the broker of {AMQP}: others have come to {', '.join(found)}.")

    @contextlib.contextmanager
    def kept_up(self) -> Iterator[None]:
        """Restart what falls, beside whatever else this process does."""
        over = threading.Event()

        def watch() -> None:
            said = ""
            while not over.wait(KEEP_UP_EVERY_S):
                try:
                    self.keep_up()
                except (RuntimeError, OSError) as error:
                    # A program that refuses to start does so each time.
                    sentence = f"{error.what} {error.why}" if isinstance(error, InfraError) else f"{error!r}"
                    if sentence != said:
                        said = sentence
                        self.say(sentence)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def stage(self) -> Stage:
        return Stage(
            fleet_url=f"http://127.0.0.1:{self.ports.fleet}",
            admin_url=f"http://127.0.0.1:{self.stack.port('admin_api')}",
            token=demo_token(self.stack),
            drivers_url=f"http://127.0.0.1:{self.stack.port('preauth')}",
            lago_url=f"http://127.0.0.1:{self.ports.lago}",
            steve_url=f"http://127.0.0.1:{self.ports.steve}",
            steve_user=("steve", STEVE_PASSWORD),
        )

    def show(self, event: dict[str, Any]) -> None:
        line = sentence(event)
        if line is not None:
            colour = COLOURS.get(event["type"].partition(".")[0], "white")
            kind = f"[{colour}]{event['type']:<21}[/]"
            at = f"[dim]{time.strftime('%H:%M:%S')}[/]"
            self._console.print(f"{at}  {kind} {escape(line)}", highlight=False, soft_wrap=True)


async def play(demo: Demo, stage: Stage, told: threading.Event, *, once: bool) -> list[Check]:
    """Play the story, and what was checked; without `once`, go on until told to stop."""
    async with Watch(demo.stack.broker.url, demo.show) as watch:
        playing = asyncio.create_task(Story(stage, watch, demo.say).play())
        stopping = asyncio.create_task(_told(told))
        await asyncio.wait([playing, stopping], return_when=asyncio.FIRST_COMPLETED)
        checks = playing.result() if playing.done() else []
        playing.cancel()
        if not once and not told.is_set():
            for check in checks:
                if not check.passed:
                    demo.say(f"This went wrong: {check.sentence}")
            demo.say("The story is over; drivers go on charging. Ctrl-C stops everything.")
            watch.only_show()
            await go_on(stage, stopping)
        stopping.cancel()
        with contextlib.suppress(StageError, httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(GO_HOME_S):
                await stage.send_drivers_home()
    await stage.close()
    return checks


async def _told(told: threading.Event) -> None:
    while not told.is_set():  # noqa: ASYNC110 - a signal handler sets it, outside the loop
        await asyncio.sleep(0.1)


async def go_on(stage: Stage, stopping: asyncio.Task[None]) -> None:
    """Drivers come and go until Ctrl-C."""
    charging: dict[tuple[str, int], str] = {}
    chance = random.Random()  # noqa: S311 - a simulated driver's choice is not cryptography
    while not (await asyncio.wait([stopping], timeout=chance.uniform(*PAUSE_S)))[0]:
        place = (chance.choice(cast.CHARGERS), chance.choice((1, 2)))
        around = [card.id_tag for card in DRIVERS if card.id_tag not in charging.values()]
        with contextlib.suppress(StageError, httpx.HTTPError):
            if charging.pop(place, None):
                await stage.stop(*place)
            elif around:
                card = chance.choice(around)
                if (await stage.tap(*place, card))["charging"]:
                    charging[place] = card


def silence() -> None:
    """Keep the terminal to the story."""
    for library in LOUD:
        logging.getLogger(library).setLevel(logging.CRITICAL)


def run_demo(*, once: bool, as_json: bool = False) -> int:
    """Play the story; 0 when every check passed (or the demo was left with Ctrl-C), else 1."""
    console = Console(stderr=as_json)
    started = time.monotonic()
    checks: list[Check] = []
    silence()
    with noted(Home.of("demo")):
        # May download RabbitMQ's packages for minutes, which Ctrl-C simply ends: nothing is started before.
        demo = Demo(console)
        with until_told() as told:
            try:
                demo.start(told)
                demo.stack.wait_ready(stop=told)
                if not told.is_set():
                    demo.say(f"All four services are ready after {time.monotonic() - started:.1f} s.")
                    _welcome(demo, console)
                    with demo.kept_up():
                        checks = asyncio.run(play(demo, demo.stage(), told, once=once))
            finally:
                demo.stop()
    return summary(checks, console, as_json=as_json) if once else 0


def _welcome(demo: Demo, console: Console) -> None:
    url = f"http://127.0.0.1:{demo.stack.port('admin_api')}/"
    console.print(f"\n  Console   [bold]{url}[/]", highlight=False)
    first = first_operator(demo.stack)
    if first is not None and first.password is not None:
        console.print(f"  Operator  [bold]{first.operator}[/]", highlight=False)
        console.print(f"  One-time password  [bold]{escape(first.password)}[/]", highlight=False)
    else:
        console.print("  An operator has chosen a password already; `expressync down` forgets it.", highlight=False)
    # Without the address it would go by the login that is kept, which may be of another installation.
    sign_in = f"expressync login --url {url.rstrip('/')}"
    console.print(f"  In the terminal  [bold]{sign_in}[/]", highlight=False, soft_wrap=True)
    console.print(f"  Logs      {demo.home.logs}\n", highlight=False, soft_wrap=True)


def summary(checks: list[Check], console: Console, *, as_json: bool) -> int:
    """Print what was checked; 0 when there was something and all of it passed, else 1."""
    passed = bool(checks) and all(check.passed for check in checks)
    if as_json:
        print(json.dumps({"passed": passed, "checks": [dataclasses.asdict(check) for check in checks]}))
        return 0 if passed else 1
    console.print()
    for check in checks:
        mark = "[green]✓[/]" if check.passed else "[red]✗[/]"
        console.print(f"  {mark} {escape(check.sentence)}", highlight=False, soft_wrap=True)
    failed = sum(not check.passed for check in checks)
    console.print(f"\n  {len(checks) - failed} of {len(checks)} checks passed.", highlight=False)
    return 0 if passed else 1
