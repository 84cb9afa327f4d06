"""Runs from the command line: start one, watch it, see what the last ones did."""

import sys
import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from services.admin_api.cli import show
from services.admin_api.cli.client import Api, Json
from services.admin_api.cli.errors import COULD_NOT_ASK, FINDING, FINE
from services.admin_api.cli.held import class_rows

POLL_S: Final = 0.5
ENDED: Final = {"finished", "failed"}
SEGMENTS: Final = {
    "cards": "Cards",
    "new": "New sessions",
    "open": "Open sessions",
    "sweep": "All sessions",
    "settle": "What to bill",
    "deliver": "Sending to Lago",
}
_UPSTREAM: Final = {"ok": "ok", "lost": "wrong", "unknown": "unknown"}
_RUN: Final = {"finished": "ok", "failed": "wrong"}


def run(segments: Sequence[str], *, watch: bool, as_json: bool) -> int:
    """Exit code when watched: 0 all is billed, 1 something failed or was held."""
    with Api() as api:
        made = api.change("/runs", {"segments": list(segments)})
        if not watch:
            if as_json:
                show.as_json(made)
            else:
                show.facts([("run", made["run_id"]), ("state", made["state"])])
                show.say("It begins when the one under way has ended; `expressync sync status` shows it.")
            return FINE
        try:
            ended = _watch(api, made, as_json=as_json)
        except KeyboardInterrupt:
            show.say("The run goes on; `expressync sync status` shows it.")
            return FINE
    if not as_json:
        show.facts(_facts(ended))
    counters = ended["counters"]
    return FINDING if ended["state"] == "failed" or counters["failed"] or counters["held"] else FINE


def status(*, limit: int, as_json: bool) -> int:
    """Exit code 0: all is well, 1: something is lost or failed, 3: somebody does not know."""
    with Api() as api:
        upstreams = api.get("/upstreams")["items"]
        runs = api.get("/runs", limit=min(limit, 200))
        classes = api.get("/held", limit=1)["classes"]
    if as_json:
        show.as_json({"upstreams": upstreams, "runs": runs, "held": classes})
    else:
        show.table(
            ["upstream", "state", "since", ""],
            [
                (u["name"], show.marked(_UPSTREAM[u["state"]], u["state"]), show.moment(u["since"]), u["sentence"])
                for u in upstreams
            ],
            empty="Nobody has said how the upstreams stand.",
        )
        show.facts([("cadence", runs["cadence"] + (", pinned" if runs["pinned"] else ""))])
        show.table(
            ["requested", "by", "state", "seen", "billed", "before", "held", "ignored", "failed", "open", ""],
            [_row(each) for each in runs["items"]],
            empty="No run found anything yet.",
            right=["seen", "billed", "before", "held", "ignored", "failed", "open"],
        )
        if classes:
            show.table(*class_rows(classes), empty="", right=["sessions", "kWh", "at stake"])
    states = {each["state"] for each in upstreams}
    newest = runs["items"][0]["state"] if runs["items"] else "finished"
    if "lost" in states or newest == "failed":
        return FINDING
    return COULD_NOT_ASK if "unknown" in states else FINE


def cadence(mode: str, *, as_json: bool) -> int:
    with Api() as api:
        made = api.change("/cadence", {"mode": None if mode == "auto" else mode}, method="PUT")
    if as_json:
        show.as_json(made)
    else:
        show.facts([("cadence", made["mode"]), ("a look every", f"{made['seconds']:g} s"), ("why", made["why"])])
    return FINE


def _watch(api: Api, made: Json, *, as_json: bool) -> Json:
    """The run as it ended. Bars on a terminal; otherwise a line whenever it has gone on."""
    drawn = show.on_terminal() and not as_json
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[counted]}"), console=Console(stderr=not sys.stdout.isatty()), disable=not drawn,
    )  # fmt: skip
    bars = _Bars(progress)
    shown: Json | None = None
    with progress:
        while True:
            found = api.get(f"/runs/{made['run_id']}", limit=1)["run"]
            if found != shown:
                shown = found
                if drawn:
                    bars.show(found)
                elif as_json:
                    show.as_json(found, line=True)
                else:
                    show.plain(*_line(found))
            if found["state"] in ENDED:
                return dict(found)
            time.sleep(POLL_S)


class _Bars:
    """One bar for each segment that the run has been at, the newest last."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._segment: str | None = None

    def show(self, run: Json) -> None:
        segment = run["segment"] or ("waiting" if run["state"] == "waiting" else self._segment)
        words = SEGMENTS.get(segment or "", "Waits for the run under way" if segment == "waiting" else "Run")
        if self._task is None or segment != self._segment:
            if self._task is not None:
                self._fill(self._task)
            self._task = self._progress.add_task(words, total=None, counted="")
            self._segment = segment
        self._progress.update(
            self._task, completed=run["done"], total=run["expected"], counted=_counted(run["counters"])
        )
        if run["state"] in ENDED:
            self._fill(self._task)

    def _fill(self, bar: TaskID) -> None:
        """A segment that has ended is done, however much was expected of it."""
        done = max(next(task.completed for task in self._progress.tasks if task.id == bar), 1)
        self._progress.update(bar, total=done, completed=done)


def _line(run: Json) -> tuple[object, ...]:
    expected = "" if run["expected"] is None else f"/{run['expected']}"
    return (run["state"], run["segment"] or "", f"{run['done']}{expected}", _counted(run["counters"]))


def _counted(counters: Json) -> str:
    return ", ".join(f"{counters[name]} {name.replace('_', ' ')}" for name in counters if counters[name])


def _facts(run: Json) -> list[tuple[str, object]]:
    counters = run["counters"]
    facts: list[tuple[str, object]] = [("run", run["run_id"]), ("state", show.Cell(run["state"], _RUN[run["state"]]))]
    states = {"held": "attention", "failed": "wrong"}
    for name, number in counters.items():
        facts.append((name.replace("_", " "), show.Cell(str(number), states.get(name, "") if number else "")))
    if run["problem"]:
        facts.append(("problem", show.Cell(run["problem"], "wrong")))
    return facts


def _row(run: Json) -> tuple[object, ...]:
    c = run["counters"]
    return (
        show.moment(run["requested_at"]),
        run["requested_by"],
        show.Cell(run["state"], _RUN.get(run["state"], "")),
        c["seen"],
        c["billed"],
        c["already_billed"],
        show.Cell(str(c["held"]), "attention" if c["held"] else ""),
        c["ignored"],
        show.Cell(str(c["failed"]), "wrong" if c["failed"] else ""),
        c["still_open"],
        run["problem"] or "",
    )
