"""`python -m deploy.demo.steve`: a SteVe to build against, on one machine."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Annotated, Literal

import typer
import uvloop

from deploy.demo.steve.faults import Fault, parse_fault
from deploy.demo.steve.seed import apply_seed, read_seed
from deploy.demo.steve.settings import HookSettings, SteveSettings, SteveVersion
from deploy.demo.steve.simulator import run_steve

Version = Literal["3.6", "3.7", "3.8", "3.10", "3.11", "3.12", "3.14", "3.15"]
Missing = Literal["401", "403", "redirect"]


def main(
    *,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Of REST; 0 takes a free one.")] = 0,
    ocpp_port: Annotated[int, typer.Option(help="Of the OCPP endpoint; 0 takes a free one.")] = 0,
    user: Annotated[str, typer.Option(help="REST user.")] = "steve",
    password: Annotated[str, typer.Option(help="REST password.")] = "steve",  # noqa: S107
    api_key: Annotated[str, typer.Option(help="STEVE-API-KEY of 3.6 and 3.7.")] = "",
    version: Annotated[Version, typer.Option(help="Which SteVe to be.")] = "3.15",
    missing_credentials: Annotated[Missing, typer.Option(help="Answer to a call without any.")] = "401",
    auth_delay_ms: Annotated[int, typer.Option(help="Cost of the password check, on every call.")] = 20,
    auth_cores: Annotated[int, typer.Option(help="Cores for it: so many checks run at once.")] = 2,
    hook_url: Annotated[str, typer.Option(help="Be the patched SteVe and ask here before answering.")] = "",
    hook_key: Annotated[str, typer.Option(envvar="STEVE_SIM_HOOK_KEY", help="Shared key of the hook.")] = "",
    hook_budget_ms: Annotated[int, typer.Option(help="How long the hook may take.")] = 200,
    ping_interval_s: Annotated[float, typer.Option(help="Between pings to a charger.")] = 900,
    heartbeat_interval_s: Annotated[int, typer.Option(help="Told to chargers at boot.")] = 14_400,
    state: Annotated[Path | None, typer.Option(help="Keep everything in this file.")] = None,
    seed: Annotated[Path | None, typer.Option(help="Tags and chargers, JSON.")] = None,
    fault: Annotated[list[str] | None, typer.Option(help="NAME=VALUE;path=...;methods=...;times=...")] = None,
) -> None:
    """Answer REST and chargers like SteVe. The first line on stdout says where."""
    try:
        faults = [parse_fault(text) for text in fault or []]
        given_seed = None if seed is None else read_seed(seed)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    settings = SteveSettings(
        host=host,
        rest_port=port,
        ocpp_port=ocpp_port,
        user=user,
        password=password,
        api_key=api_key,
        version=SteveVersion.parse(version),
        missing_credentials=missing_credentials,
        auth_delay_ms=auth_delay_ms,
        auth_cores=auth_cores,
        hook=HookSettings(url=hook_url, key=hook_key, budget_ms=hook_budget_ms) if hook_url else None,
        state_file=state,
        ping_interval_s=ping_interval_s,
        heartbeat_interval_s=heartbeat_interval_s,
    )

    async def run(faults: list[Fault]) -> None:
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        async with run_steve(settings, faults) as steve:
            if given_seed is not None:
                apply_seed(steve.state, given_seed)
            print(json.dumps({"rest": steve.rest_url, "ocpp": steve.ocpp_url}), flush=True)
            await ended.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(faults))


if __name__ == "__main__":
    typer.run(main)
