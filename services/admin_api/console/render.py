"""Turns a template and a view model into a page. Nothing here knows what is on it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.admin_api.console import format as fmt
from services.admin_api.console import paths
from services.admin_api.console.view.frame import Frame

HERE: Final = Path(__file__).parent
TEMPLATES: Final = HERE / "templates"
STATIC: Final = HERE / "static"

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


def assets_digest(static: Path = STATIC) -> str:
    """Changes whenever a stylesheet or a script does: their addresses hold it and are cached for ever."""
    digest = hashlib.sha256()
    for file in sorted(path for path in static.rglob("*") if path.is_file()):
        digest.update(file.relative_to(static).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


class Pages:
    """The console's templates. Made once, at start."""

    def __init__(self) -> None:
        self.assets = f"/static/{assets_digest()}"
        self._jinja = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._jinja.globals.update(assets=self.assets, fmt=fmt, paths=paths)

    def render(self, template: str, frame: Frame, page: object) -> str:
        """The HTML of `template` (such as `cards/show.html`), which sees `frame`, `page` and `now`."""
        return self._jinja.get_template(template).render(frame=frame, page=page, now=frame.now)
