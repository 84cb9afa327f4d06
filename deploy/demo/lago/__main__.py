"""`python -m deploy.demo.lago`: a simulated Lago of its own.

The first line on standard output is `{"url": "http://127.0.0.1:PORT"}`, written once it answers.
"""

import asyncio
import json
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.demo.lago.faults import Fault
from deploy.demo.lago.server import run_lago
from deploy.demo.lago.settings import CLOUD_LIMITS, EventsStore, LagoSettings, RateLimits, WebhookAlgorithm

_DEFAULTS = LagoSettings()


def main(
    *,
    host: str = _DEFAULTS.host,
    port: Annotated[int, typer.Option(help="0 takes a free port.")] = 0,
    api_key: Annotated[str, typer.Option(envvar="LAGO_SIM_API_KEY")] = _DEFAULTS.api_key,
    store: Annotated[EventsStore, typer.Option(help="postgres rejects duplicates, clickhouse does not.")] = "postgres",
    seed: Annotated[Path | None, typer.Option(exists=True, help="JSON; see deploy/demo/lago/seed.py.")] = None,
    state: Annotated[Path | None, typer.Option(help="SQLite file that survives a restart.")] = None,
    fault: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE[,path=PREFIX][,method=M][,count=N]; repeatable.")
    ] = None,
    cloud_limits: Annotated[bool, typer.Option(help="The rate limits of Lago's cloud.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Requests served at once.")] = _DEFAULTS.threads,
    webhook_url: str | None = None,
    webhook_algorithm: WebhookAlgorithm = "hmac",
    webhook_hmac_key: Annotated[str, typer.Option(envvar="LAGO_SIM_HMAC_KEY")] = _DEFAULTS.webhook_hmac_key,
    webhook_time_factor: float = 1.0,
) -> None:
    """Run a simulated Lago until it is told to stop (SIGINT, SIGTERM)."""
    try:
        settings = LagoSettings(
            host=host,
            port=port,
            api_key=api_key,
            events_store=store,
            seed=_read(seed),
            state_file=state,
            faults=tuple(Fault.parse(text) for text in fault or ()),
            limits=CLOUD_LIMITS if cloud_limits else RateLimits(),
            threads=threads,
            webhook_url=webhook_url,
            webhook_algorithm=webhook_algorithm,
            webhook_hmac_key=webhook_hmac_key,
            webhook_time_factor=webhook_time_factor,
        )
        asyncio.run(_serve(settings))
    except (ValueError, OSError) as error:
        typer.echo(f"The simulated Lago cannot start: {error}", err=True)
        raise typer.Exit(2) from error


def _read(seed: Path | None) -> dict[str, Any]:
    if seed is None:
        return {}
    content = json.loads(seed.read_text())
    if not isinstance(content, dict):
        raise ValueError(f"{seed} must hold a JSON object.")  # noqa: TRY004 - told to a person, not to code
    return content


async def _serve(settings: LagoSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with run_lago(settings) as lago:
        print(json.dumps({"url": lago.url}), flush=True)
        await stop.wait()


if __name__ == "__main__":
    typer.run(main)
