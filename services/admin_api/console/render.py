"""Turns a template and a view model into a page. Nothing here knows what is on it."""

from pathlib import Path
from typing import Final

from services.admin_api.console import format as fmt
from services.admin_api.console import paths
from services.admin_api.console.view.frame import Frame
from shared.web.pages import Assets, environment

HERE: Final = Path(__file__).parent


class Pages:
    """The console's templates and assets. Made once, at start."""

    def __init__(self) -> None:
        self.assets = Assets(HERE / "static")
        self._jinja = environment(HERE / "templates")
        self._jinja.globals.update(assets=self.assets.address, fmt=fmt, paths=paths)

    def render(self, template: str, frame: Frame, page: object) -> str:
        """The HTML of `template` (such as `cards/show.html`), which sees `frame`, `page` and `now`."""
        return self._jinja.get_template(template).render(frame=frame, page=page, now=frame.now)
