"""A browser without a screen: keeps cookies, follows what pages say, sends forms as they are drawn."""

import re
from html import unescape
from typing import Protocol

import httpx

from tests.integration.services.admin_api.support import OWN_PASSWORD

_FORM = re.compile(r'<form[^>]*method="post"[^>]*action="(?P<action>[^"]*)"[^>]*>(?P<body>.*?)</form>', re.DOTALL)
_INPUT = re.compile(r"<input\b(?P<attributes>[^>]*)>")
_ATTRIBUTE = re.compile(r'(?P<name>[a-z_-]+)="(?P<value>[^"]*)"')


class Place(Protocol):
    """Where a console is."""

    @property
    def url(self) -> str: ...

    def client(self, **headers: str) -> httpx.AsyncClient: ...


class Console:
    """`get` and `submit` return the response as it came; nothing is followed unasked."""

    def __init__(self, house: Place) -> None:
        self.client = house.client(**{"Sec-Fetch-Site": "same-origin", "Origin": house.url})
        self.client.follow_redirects = False

    async def get(self, path: str, **query: str) -> httpx.Response:
        return await self.client.get(path, params=query or None)

    async def submit(self, page: httpx.Response, action: str, **typed: str) -> httpx.Response:
        """Send the form of this page whose action is `action`, with its hidden fields and what is typed."""
        for form in _FORM.finditer(page.text):
            if unescape(form["action"]) == action:
                return await self.client.post(action, data={**_fields(form["body"]), **typed})
        raise AssertionError(f"no form for {action} on {page.request.url}")

    async def sign_in(
        self, name: str = "admin", password: str = OWN_PASSWORD, path: str = "/sign-in"
    ) -> httpx.Response:
        return await self.submit(await self.get(path), "/sign-in", name=name, password=password)


def _fields(form: str) -> dict[str, str]:
    fields = {}
    for found in _INPUT.finditer(form):
        attributes = {each["name"]: unescape(each["value"]) for each in _ATTRIBUTE.finditer(found["attributes"])}
        unticked = attributes.get("type") in {"radio", "checkbox"} and " checked" not in found["attributes"]
        if "name" in attributes and not unticked:
            fields[attributes["name"]] = attributes.get("value", "")
    return fields


def words(page: httpx.Response) -> str:
    """What stands on the page, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page.text)).split())
