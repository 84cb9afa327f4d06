"""The API as the command line asks it."""

import time
from collections.abc import Iterator
from typing import Any, Final, Self
from uuid import uuid4

import httpx

from services.admin_api.cli import config
from services.admin_api.cli.config import Access
from services.admin_api.cli.errors import USAGE, CliError, Refused
from shared.web.client import sendable

Json = dict[str, Any]

TIMEOUT_S: Final = 30.0
# A change whose outcome is unknown is asked about again, with the same key: it is executed once.
REPEATS: Final = 2
PAUSE_S: Final = 1.0


class Api:
    """GET and POST under `/api/v1`. Use as a context manager.

    Raises `CliError` when it does not answer and `Refused` when it refuses.
    """

    def __init__(self, access: Access | None = None) -> None:
        self.access = access or config.load()
        if self.access.token and not sendable(self.access.token):
            # Said here: the library's words would repeat it.
            raise CliError(
                "The token cannot be sent.",
                "It holds a character that no header can carry, perhaps a line break or a space at its end.",
                f"Set {config.TOKEN} to the token alone, or run `expressync login` again.",
                code=USAGE,
            )
        headers = {"Authorization": f"Bearer {self.access.token}"} if self.access.token else {}
        self._client = httpx.Client(
            base_url=f"{self.access.url}/api/v1", headers=headers, timeout=TIMEOUT_S, follow_redirects=False,
            trust_env=False,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **query: object) -> Json:
        """Query values that are None are left out."""
        return self._read(self._send("GET", path, params={k: str(v) for k, v in query.items() if v is not None}))

    def pages(self, path: str, limit: int, **query: object) -> Iterator[Json]:
        """Items of a list, read on by cursor, at most `limit`."""
        for page in self.whole_pages(path, limit, **query):
            yield from page["items"]

    def whole_pages(self, path: str, limit: int, **query: object) -> Iterator[Json]:
        """A list as it comes, with what stands beside the items, of which there are at most `limit`."""
        cursor, left = None, limit
        while left > 0:
            page = self.get(path, limit=min(left, 200), cursor=cursor, **query)
            yield {**page, "items": page["items"][:left]}
            left -= len(page["items"])
            cursor = page["next_cursor"]
            if cursor is None or not page["items"]:
                return

    def post(self, path: str, body: Json | None = None, *, patience_s: float = TIMEOUT_S) -> Json:
        """Something that is no change and needs no key."""
        return self._read(self._send("POST", path, json=body or {}, timeout=patience_s))

    def delete(self, path: str) -> None:
        self._read(self._send("DELETE", path))

    def change(
        self,
        path: str,
        body: Json | None = None,
        *,
        method: str = "POST",
        repeats: int = REPEATS,
        patience_s: float = TIMEOUT_S,
    ) -> Json:
        """A change, under a key of its own; repeated with the same key while its outcome is unknown."""
        headers = {"Idempotency-Key": str(uuid4())}
        for left in reversed(range(repeats + 1)):
            try:
                return self._read(self._send(method, path, json=body or {}, headers=headers, timeout=patience_s))
            except CliError as error:
                unknown = not isinstance(error, Refused) or error.status in (503, 504)
                if not unknown or not left:
                    raise
                time.sleep(PAUSE_S)
        raise AssertionError("unreachable")

    def _send(self, method: str, path: str, **kwargs: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        try:
            return self._client.request(method, path, **kwargs)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise CliError(
                f"ExpresSync does not answer at {self.access.url}.",
                f"{type(error).__name__}: {error}.",
                "Start it (expressync up), or set EXPRESSYNC_URL to where it is.",
            ) from error

    def _read(self, answer: httpx.Response) -> Json:
        if answer.status_code == 204:
            return {}
        try:
            body = answer.json()
            if answer.is_success and isinstance(body, dict):
                return body
            raise Refused(answer.status_code, body["code"], body["title"], body["detail"])
        except (ValueError, KeyError, TypeError) as error:
            raise CliError(
                f"{self.access.url} is not ExpresSync.",
                f"It answered {answer.status_code} with something that is neither an answer nor a problem of ours.",
                "Set EXPRESSYNC_URL to the address of the console.",
            ) from error
