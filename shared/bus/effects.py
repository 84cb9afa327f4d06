"""Effects outside the database: claimed before they begin, recorded after they are done, never begun twice."""

from collections.abc import Awaitable, Callable

from shared.contracts.problem import Conflict
from shared.database.engine import Database, Write

Note = Callable[[Write], Awaitable[None]]


class StillRunning(Conflict):
    code, title = "still_running", "The request with this key is being carried out"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is being carried out. Ask again with the same key to learn how it ended.")


class EffectUnknown(Conflict):
    code, title = "effect_unknown", "It is not known whether this was done"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"ExpresSync was stopped, or lost its database, while it carried out {name} for this key: it may have been"
            " done, and is not done again. Look whether it was; if not, ask with a new key."
        )


class TooLateError(Exception):
    """The deadline passed before the commit: nothing was changed, and nobody waits for the answer."""


class Effect:
    """What a command gets whose effect lies outside the database: the point from which on it counts as begun.

    Before `begin` it is a command like all others, rolled back at its deadline and where it fails. Afterwards its key
    is taken whatever happens: the outcome is recorded however late it is, and where there is none, because the process
    died, the key answers that nobody knows.
    """

    def __init__(self, database: Database, key: str, *, claim: Note, in_time: Callable[[], bool]) -> None:
        self.key = key
        """The idempotency key together with its caller: no other request ever has it."""
        self.begun = False
        self._database, self._claim, self._in_time = database, claim, in_time

    async def begin(self, note: Note | None = None) -> None:
        """Commit, beside the command's own transaction, that the effect begins, and with it what `note` writes.

        :raises TooLateError: the deadline has passed, and nothing may be begun any more.
        """
        async with self._database.write() as beside:
            await self._claim(beside)
            if note is not None:
                await note(beside)
            if not self._in_time():
                raise TooLateError
        self.begun = True
