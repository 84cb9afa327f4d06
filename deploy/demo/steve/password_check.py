import asyncio


class PasswordCheck:
    """What SteVe's bcrypt costs on every call, right or wrong: a core for that long. More calls than cores queue."""

    def __init__(self, delay_ms: int, cores: int) -> None:
        self._delay_s = delay_ms / 1000
        self._cores = asyncio.Semaphore(cores)

    async def run(self) -> None:
        async with self._cores:
            await asyncio.sleep(self._delay_s)
