"""Errors in three lines (what, why, what to do) and exit codes that mean something."""

from typing import Final

FINE: Final = 0
FINDING: Final = 1
USAGE: Final = 2
COULD_NOT_ASK: Final = 3


class CliError(Exception):
    """`code` is the process's exit code."""

    def __init__(self, what: str, why: str, todo: str, *, code: int = COULD_NOT_ASK) -> None:
        super().__init__(what)
        self.what, self.why, self.todo, self.code = what, why, todo, code


class Refused(CliError):  # noqa: N818 - the API's answer, which is no fault
    """The API answered with a problem detail; `problem` is its code."""

    def __init__(self, status: int, problem: str, title: str, detail: str) -> None:
        todo = {
            401: "Run `expressync login`, or set EXPRESSYNC_TOKEN.",
            403: "Ask an administrator for another role or token.",
            404: "Look at what was typed; nothing was changed.",
            409: "Look how it stands now, then decide again; nothing was changed.",
            504: "Try again in a moment; `expressync doctor` tells what does not answer.",
        }.get(
            status, "Correct it and try again." if status < 500 else "Try again in a moment; the service's log has it."
        )
        codes = {404: FINDING, 409: FINDING, 400: USAGE, 422: USAGE}
        super().__init__(f"{title}.", detail, todo, code=codes.get(status, COULD_NOT_ASK))
        self.status, self.problem = status, problem
