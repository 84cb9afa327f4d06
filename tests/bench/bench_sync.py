"""A backlog of finished sessions through sync, against a bare loop that reads and posts the same bytes.

Both talk to the same simulators, with pages and batches of the same size and as many requests in flight. The bare loop
keeps nothing: it has no database, no links, no proof. A session's cost is measured at several sizes of the backlog.
"""

import asyncio
import json
import os
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx
import uvloop

from deploy.demo.chargers.charger import Charger
from deploy.demo.chargers.settings import ChargerSettings
from services.sync.ledger.rules import kwh, unix_seconds, usage_event, usage_event_id
from services.sync.steve.models import Transaction
from tests.bench.figures import median
from tests.bench.sync_world import CARDS, METRIC, STEVE_ID, SUBSCRIPTIONS, BenchWorld, bench_world
from tests.infra import Infra, provided

SIZES: Final = (1_000, 10_000, 100_000)
PAGE: Final = 500
BATCH: Final = 100
IN_FLIGHT: Final = 3
LONGEST_S: Final = 1_200.0
STOPS: Final = 20
STAYS_S: Final = 1.0


@dataclass(frozen=True)
class Measured:
    seconds: float
    sessions: int
    requests: int
    peak_rss_mb: float = 0.0

    @property
    def per_s(self) -> float:
        return self.sessions / self.seconds


async def bare(world: BenchWorld, count: int) -> Measured:
    """Read every transaction and post its event; BATCH a request, IN_FLIGHT at once."""
    requests = 0
    limits = httpx.Limits(max_connections=8, max_keepalive_connections=8)
    async with (
        httpx.AsyncClient(auth=("steve", "steve"), limits=limits, timeout=60, trust_env=False) as steve,
        httpx.AsyncClient(
            headers={"Authorization": "Bearer lago-simulator-key"}, limits=limits, timeout=60, trust_env=False
        ) as lago,
    ):
        free = asyncio.Semaphore(IN_FLIGHT)

        async def post(events: list[dict[str, Any]]) -> None:
            async with free:
                answer = await lago.post(f"{world.lago_url}/api/v1/events/batch", json={"events": events})
                answer.raise_for_status()

        [first_row] = (
            await steve.get(f"{world.steve_url}/steve/api/v1/transactions", params={"transactionPk": "1"})
        ).json()
        check_bare_event(first_row)
        started = time.perf_counter()
        posts: list[asyncio.Task[None]] = []
        for first in range(1, count + 1, PAGE):
            pks = ",".join(str(pk) for pk in range(first, first + PAGE))
            answer = await steve.get(f"{world.steve_url}/steve/api/v1/transactions", params={"transactionPk": pks})
            events = [as_bare_event(one) for one in answer.raise_for_status().json()]
            batches = [events[at : at + BATCH] for at in range(0, len(events), BATCH)]
            posts += [asyncio.create_task(post(batch)) for batch in batches]
            requests += 1 + len(batches)
        await asyncio.gather(*posts)
        return Measured(time.perf_counter() - started, count, requests)


def as_bare_event(row: dict[str, Any]) -> dict[str, Any]:
    """The event that sync sends for this transaction, under an id of its own, with nothing checked on the way."""
    card = int(row["ocppIdTag"].rpartition("-")[2])
    wh = int(row["stopValue"]) - int(row["startValue"])
    return {
        "transaction_id": usage_event_id("bare0", row["id"], 1),
        "external_subscription_id": f"sub_{card % SUBSCRIPTIONS}",
        "code": METRIC,
        "timestamp": unix_seconds(datetime.fromisoformat(row["stopTimestamp"])),
        "properties": {"kwh": kwh(wh), "session": f"{STEVE_ID}:{row['id']}", "charger": row["chargeBoxId"]},
    }


def check_bare_event(row: dict[str, Any]) -> None:
    """That both send the same, before either is measured."""
    one = Transaction.model_validate(row)
    assert one.stop_timestamp is not None
    assert one.stop_wh is not None
    assert one.start_wh is not None
    card = int(one.ocpp_id_tag.rpartition("-")[2])
    event = usage_event(
        event_id=usage_event_id("bare0", one.pk, 1),
        subscription=f"sub_{card % SUBSCRIPTIONS}",
        code=METRIC,
        property_name="kwh",
        wh=one.stop_wh - one.start_wh,
        timestamp=one.stop_timestamp,
        session=f"{STEVE_ID}:{one.pk}",
        charge_box_id=one.charge_box_id,
    )
    assert json.dumps(event.model_dump()) == json.dumps(as_bare_event(row))


async def through_sync(world: BenchWorld, count: int) -> Measured:
    """From sync's first question about transactions until Lago has every event."""
    before = await world.lago_state()
    seen = (await world.steve_state())["requests"].get("GET /transactions", 0)
    process = world.start_sync(poll_s="0.5", in_flight=str(IN_FLIGHT), page_size=str(PAGE))
    async with asyncio.timeout(60):
        while (await world.steve_state())["requests"].get("GET /transactions", 0) == seen:  # noqa: ASYNC110 - outside
            await asyncio.sleep(0.02)
    started = time.perf_counter()
    asked = sum((await world.steve_state())["requests"].values())
    async with asyncio.timeout(LONGEST_S):
        while (state := await world.lago_state())["events"] < before["events"] + count:  # noqa: ASYNC110 - outside
            await asyncio.sleep(min(0.25, count / 40_000))
    seconds = time.perf_counter() - started
    steve_requests = sum((await world.steve_state())["requests"].values()) - asked + 1
    lago_requests = state["requests"]["total"] - before["requests"]["total"]
    measured = Measured(seconds, count, steve_requests + lago_requests, process.peak_rss_mb())
    process.end()
    return measured


async def one_size(infra: Infra, folder: Path, count: int) -> tuple[Measured, Measured]:
    async with bench_world(infra, folder) as world:
        await world.seed_cards(CARDS)
        await world.seed_history(count)
        bare_loop = await bare(world, count)
        return await through_sync(world, count), bare_loop


async def stops_to_counted(infra: Infra, folder: Path) -> list[float]:
    """Seconds from each StopTransaction at a charger, through the gateway, until Lago counts the event."""
    async with bench_world(infra, folder, ["sync", "preauth"]) as world:
        await world.seed_cards(1)
        chargers = {"tags": [], "chargers": [{"charge_box_id": "CP-LIVE"}]}
        (await world.http.post(f"{world.steve_url}/_sim/seed", json=chargers)).raise_for_status()
        world.start_sync()
        settings = ChargerSettings(
            ocpp_url=await world.start_gateway(folder), charge_box_id="CP-LIVE", reconnect_max_s=1
        )
        seconds = []
        async with asyncio.timeout(LONGEST_S), Charger(settings) as charger:
            for number in range(STOPS + 1):
                await charger.start_session(1, "CARD-0")
                await asyncio.sleep(STAYS_S)
                stopped = time.perf_counter()
                await charger.stop(1, energy_wh=300)
                while await counted(world) <= number:  # noqa: ASYNC110 - outside
                    await asyncio.sleep(0.01)
                seconds.append(time.perf_counter() - stopped)
    # The first one also waits for the services to start and to be introduced to each other.
    return seconds[1:]


async def counted(world: BenchWorld) -> int:
    usage = (await world.lago_state(counted=True))["counted"]
    return sum(int(one[METRIC]["events_count"]) for one in usage.values())


async def measure(infra: Infra, folder: Path, sizes: tuple[int, ...]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    measured: dict[int, Measured] = {}
    for size in sizes:
        ours, theirs = await one_size(infra, folder, size)
        measured[size] = ours
        name = f"{size // 1000}k"
        figures |= {
            f"sessions_per_s_{name}": round(ours.per_s),
            f"bare_sessions_per_s_{name}": round(theirs.per_s),
            f"ratio_to_bare_loop_{name}": round(ours.per_s / theirs.per_s, 3),
            f"requests_per_session_{name}": round(ours.requests / size, 4),
            f"bare_requests_per_session_{name}": round(theirs.requests / size, 4),
            f"peak_rss_mb_{name}": round(ours.peak_rss_mb),
        }
    live = await stops_to_counted(infra, folder)
    largest, smallest = sizes[-1], sizes[0]
    name = f"{largest // 1000}k"
    return {
        "sessions": largest,
        "ratio_to_bare_loop": figures[f"ratio_to_bare_loop_{name}"],
        "requests_per_session": figures[f"requests_per_session_{name}"],
        "peak_rss_mb": max(figures[f"peak_rss_mb_{size // 1000}k"] for size in sizes),
        f"cost_ratio_{name}_to_{smallest // 1000}k": round(
            (measured[largest].seconds / largest) / (measured[smallest].seconds / smallest), 3
        ),
        "stop_to_counted_p50_s": round(median(live), 2),
        "stop_to_counted_max_s": round(max(live), 2),
        **figures,
    }


def main() -> dict[str, Any]:
    sizes = tuple(int(size) for size in os.environ.get("EXPRESSYNC_BENCH_SYNC_SIZES", "").split(",") if size) or SIZES
    with tempfile.TemporaryDirectory() as folder, provided(Path(folder)) as infra:
        return uvloop.run(measure(infra, Path(folder), sizes))
