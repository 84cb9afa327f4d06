from pathlib import Path

import httpx
import jinja2
import pytest
from starlette.applications import Starlette

from shared.web.pages import FOR_EVER, Assets, environment


def test_the_address_of_the_assets_changes_with_their_content(tmp_path: Path) -> None:
    """Assets are cached for ever, so their address is a digest of names and contents."""
    (tmp_path / "a.css").write_text("a {}")
    first = Assets(tmp_path).address
    assert Assets(tmp_path).address == first
    (tmp_path / "a.css").write_text("b {}")
    second = Assets(tmp_path).address
    (tmp_path / "a.css").rename(tmp_path / "b.css")
    assert len({first, second, Assets(tmp_path).address}) == 3


async def test_assets_are_served_with_the_shared_ones_and_nothing_beside_them(tmp_path: Path) -> None:
    """Own and shared files stand under one address, cached for ever only there; anything else is not found."""
    (tmp_path / "js").mkdir()
    (tmp_path / "js" / "own.js").write_text("own()")
    assets = Assets(tmp_path)
    transport = httpx.ASGITransport(Starlette(routes=[assets.route()]))
    async with httpx.AsyncClient(transport=transport, base_url="http://pages") as client:
        own = await client.get(f"{assets.address}/js/own.js")
        shared = await client.get(f"{assets.address}/tokens.css")
        from_another_replica = await client.get("/static/0123456789ab/js/own.js")
        missing = await client.get(f"{assets.address}/..%2Fpages.py")
    assert (own.text, own.headers["cache-control"]) == ("own()", FOR_EVER)
    assert own.headers["content-type"].startswith("text/javascript")
    assert shared.headers["content-type"].startswith("text/css")
    assert (from_another_replica.text, from_another_replica.headers["cache-control"]) == ("own()", "no-store")
    assert missing.status_code == 404


def test_templates_escape_and_miss_nothing(tmp_path: Path) -> None:
    """What a template shows is text, and what it is not given is an error instead of a gap."""
    (tmp_path / "page.html").write_text("{{ name }}")
    template = environment(tmp_path).get_template("page.html")
    assert template.render(name="<b>") == "&lt;b&gt;"
    with pytest.raises(jinja2.UndefinedError):
        template.render()
