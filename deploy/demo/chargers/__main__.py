"""`python -m deploy.demo.chargers`: a fleet of chargers with a remote control."""

import asyncio
import json
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from deploy.demo.chargers.control import build_control
from deploy.demo.chargers.faults import FAULT_NAMES, parse_fault
from deploy.demo.chargers.fleet import Fleet, PaceDefaults, read_fleet
from deploy.demo.chargers.settings import Happening
from deploy.demo.steve.listen import HttpListener


def main(
    *,
    ocpp_url: Annotated[str, typer.Option(help="SteVe's endpoint, or a gateway's, without the charger.")],
    fleet: Annotated[Path, typer.Option(help="The chargers, JSON.")],
    host: Annotated[str, typer.Option(help="Where the remote control listens.")] = "127.0.0.1",
    control_port: Annotated[int, typer.Option(help="Of the remote control; 0 takes a free one.")] = 0,
    power_w: Annotated[int, typer.Option(help="What a connector delivers.")] = 11_000,
    behind_s: Annotated[int, typer.Option(help="How long ago a session begins for the station.")] = 3600,
    factor: Annotated[int, typer.Option(help="How much faster the station's time runs.")] = 720,
    sample_s: Annotated[float, typer.Option(help="Real seconds between meter values.")] = 0.5,
    spread_s: Annotated[float, typer.Option(help="Spread the first connections over that long.")] = 1.0,
    fault: Annotated[list[str] | None, typer.Option(help=f"NAME=VALUE;charger=...: {', '.join(FAULT_NAMES)}.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Connect a fleet. The first line on stdout says where the remote control is."""
    try:
        chargers = read_fleet(fleet)
        faults = [parse_fault(text) for text in fault or []]
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    pace = PaceDefaults(power_w=power_w, behind_s=behind_s, factor=factor, sample_s=sample_s)

    async def run() -> None:
        running = Fleet(
            ocpp_url, chargers, _print_json if as_json else _print_line, pace, spread_s=spread_s, faults=faults
        )
        control = HttpListener(build_control(running), host, control_port)
        await control.start()
        print(json.dumps({"control": f"http://{host}:{control.port}"}), flush=True)
        work = asyncio.create_task(running.run())
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        await asyncio.wait({work})
        await control.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def _print_json(happening: Happening) -> None:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"at": at, **happening}), flush=True)


def _print_line(happening: Happening) -> None:
    rest = {name: value for name, value in happening.items() if name not in {"what", "charge_box_id"}}
    details = "  ".join(f"{name}={value}" for name, value in rest.items())
    now = datetime.now(UTC).strftime("%H:%M:%S")
    print(f"{now}  {happening['charge_box_id']:<12}  {happening['what']:<18}  {details}", flush=True)


if __name__ == "__main__":
    typer.run(main)
