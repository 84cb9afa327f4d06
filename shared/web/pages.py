"""What the pages of all services have in common: strict headers, templates that escape, assets that are kept for ever.

The look they share (colours, type, reset, icons, times) stands in `static/` and `templates/` beside this file; a
service's own folders come first, so that a page asks for both under one address.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

HERE: Final = Path(__file__).parent
SHARED_STATIC: Final = HERE / "static"
SHARED_TEMPLATES: Final = HERE / "templates"

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""For every page. Templates hold no inline script and no inline style, so nothing has to be excepted."""

# By name, because what the machine's own tables say differs from machine to machine.
KINDS: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    kind: str


class Assets:
    """The shared static files and a service's own, read once, under an address that changes with their content."""

    def __init__(self, *own: Path) -> None:
        self._files: dict[str, Asset] = {}
        for folder in (SHARED_STATIC, *own):
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                self._files[file.relative_to(folder).as_posix()] = Asset(file.read_bytes(), KINDS[file.suffix])
        self.digest = self._digest()
        self.address = f"/static/{self.digest}"

    def get(self, path: str) -> Asset | None:
        """The file at this path below the address, such as `css/pages.css`."""
        return self._files.get(path)

    def route(self) -> Route:
        """`/static/...`. Another digest than ours is answered too, uncached: during an upgrade a page may come from
        one replica and ask another one for its stylesheet.
        """
        return Route("/static/{digest}/{path:path}", self._serve, methods=["GET"])

    async def _serve(self, request: Request) -> Response:
        asset = self.get(request.path_params["path"])
        if asset is None:
            return Response(status_code=404)
        headers = {
            "Cache-Control": FOR_EVER if request.path_params["digest"] == self.digest else "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(asset.content, media_type=asset.kind, headers=headers)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for path, asset in sorted(self._files.items()):
            digest.update(path.encode() + b"\0" + asset.content)
        return digest.hexdigest()[:12]


def environment(*own: Path) -> Environment:
    """Templates of these folders and the shared ones. What is missing is an error, what is shown is escaped."""
    return Environment(
        loader=FileSystemLoader([*own, SHARED_TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
