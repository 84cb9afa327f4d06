"""`/steve/api/v1/ocppTags`. Source: facts/steve.md, "Tags"."""

import re
import zlib
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.steve.api import (
    ApiRefusalError,
    bad_request,
    choice_param,
    int_param,
    json_response,
    not_found,
    parse_moment,
    path_int,
    read_json,
    text_param,
)
from deploy.demo.steve.model import Tag, tag_key
from deploy.demo.steve.settings import SteveVersion
from deploy.demo.steve.state import HasChildrenError, SteveState, TagExistsError, UnknownParentError
from deploy.demo.steve.views import tag_overview

ID_TAG = re.compile(r"[A-Za-z0-9.:_#-]{1,20}")
TRI_STATE = ("ALL", "TRUE", "FALSE")
USER_FILTER = ("All", "OnlyTagsWithUser", "OnlyTagsWithoutUser")


class TagsApi:
    def __init__(self, state: SteveState, version: SteveVersion) -> None:
        self._state = state
        self._version = version

    def routes(self) -> list[Route]:
        routes = [
            Route("/ocppTags", self.list, methods=["GET"]),
            Route("/ocppTags", self.create, methods=["POST"]),
            Route("/ocppTags/{pk}", self.get, methods=["GET"]),
            Route("/ocppTags/{pk}", self.replace, methods=["PUT"]),
            Route("/ocppTags/{pk}", self.remove, methods=["DELETE"]),
        ]
        if self._version.has_expire:
            routes.append(Route("/ocppTags/{pk}/expire", self.expire, methods=["PATCH"]))
        return routes

    async def list(self, request: Request) -> Response:
        keep = [tag for tag in self._state.tags.values() if self._matches(tag, request)]
        # SteVe promises no order; one that follows neither the key nor the name keeps callers honest.
        keep.sort(key=lambda tag: zlib.crc32(tag.id_tag.encode()))
        return json_response([tag_overview(self._state, tag) for tag in keep])

    async def get(self, request: Request) -> Response:
        return self._answer(path_int(request, "pk"))

    async def create(self, request: Request) -> Response:
        form = _Form(await read_json(request), self._state.clock())
        try:
            tag = self._state.add_tag(
                form.id_tag,
                parent_id_tag=form.parent_id_tag,
                expiry=form.expiry,
                limit=form.limit,
                note=form.note,
            )
        except (TagExistsError, UnknownParentError) as error:
            # Also for a parent that does not exist: SteVe takes every integrity error for a duplicate.
            message = f"A user with idTag '{form.id_tag}' already exists."
            raise ApiRefusalError(422, message) from error
        return self._answer(tag.pk, 201)

    async def replace(self, request: Request) -> Response:
        pk = path_int(request, "pk")
        form = _Form(await read_json(request), self._state.clock())
        try:
            self._state.replace_tag(
                pk, parent_id_tag=form.parent_id_tag, expiry=form.expiry, limit=form.limit, note=form.note
            )
        except UnknownParentError as error:
            message = f"Execution of updateOcppTag for idTag '{form.id_tag}' FAILED."
            raise ApiRefusalError(500, message) from error
        return self._answer(pk)

    async def remove(self, request: Request) -> Response:
        pk = path_int(request, "pk")
        answer = self._answer(pk)
        try:
            self._state.remove_tag(pk)
        except HasChildrenError as error:
            raise ApiRefusalError(500, f"Execution of deleteOcppTag for ocppTagPk '{pk}' FAILED.") from error
        return answer

    async def expire(self, request: Request) -> Response:
        tag = self._find(path_int(request, "pk"))
        self._state.replace_tag(
            tag.pk, parent_id_tag=tag.parent_id_tag, expiry=self._state.clock(), limit=tag.limit, note=tag.note
        )
        return self._answer(tag.pk)

    def _find(self, pk: int) -> Tag:
        tag = self._state.tags.get(pk)
        if tag is None:
            raise not_found("Could not find this ocppTag")
        return tag

    def _answer(self, pk: int, status: int = 200) -> Response:
        return json_response(tag_overview(self._state, self._find(pk)), status)

    def _matches(self, tag: Tag, request: Request) -> bool:
        pk, id_tag = int_param(request, "ocppTagPk"), text_param(request, "idTag")
        parent, note = text_param(request, "parentIdTag"), text_param(request, "note")
        user = int_param(request, "userId")
        users = choice_param(request, "userFilter", USER_FILTER, "All")
        return (
            (pk is None or tag.pk == pk)
            and (id_tag is None or tag_key(tag.id_tag) == tag_key(id_tag))
            and (parent is None or tag_key(tag.parent_id_tag or "") == tag_key(parent))
            and (note is None or note.lower() in (tag.note or "").lower())
            and (user is None or tag.user_pk == user)
            and users in {"All", "OnlyTagsWithoutUser" if tag.user_pk is None else "OnlyTagsWithUser"}
            and _fits(request, "expired", actual=_is_expired(tag, self._state.clock()))
            and _fits(request, "inTransaction", actual=self._state.active_count(tag) > 0)
            and _fits(request, "blocked", actual=tag.blocked)
        )


def _is_expired(tag: Tag, now: datetime) -> bool:
    return tag.expiry is not None and tag.expiry <= now


def _fits(request: Request, name: str, *, actual: bool) -> bool:
    wanted = choice_param(request, name, TRI_STATE, "ALL")
    return wanted == "ALL" or (wanted == "TRUE") == actual


class _Form:
    """OcppTagForm. 400 for what SteVe validates, 500 for what Jackson cannot read."""

    def __init__(self, body: dict[str, Any], now: datetime) -> None:
        self.id_tag = _text(body, "idTag") or ""
        self.parent_id_tag = _text(body, "parentIdTag") or None
        self.note = _text(body, "note")
        self.expiry = _moment(body, "expiryDate")
        limit = body.get("maxActiveTransactionCount")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
            raise ApiRefusalError(500, "JSON parse error: Cannot deserialize value of type `java.lang.Integer`")
        self.limit: int = 1 if limit is None else limit
        if ID_TAG.fullmatch(self.id_tag) is None:
            raise bad_request()
        if self.expiry is not None and self.expiry <= now:
            raise bad_request()


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise ApiRefusalError(500, "JSON parse error: Cannot deserialize value of type `java.lang.String`")
    return value


def _moment(body: dict[str, Any], name: str) -> datetime | None:
    value = _text(body, name)
    if value is None:
        return None
    try:
        return parse_moment(value)
    except ValueError as error:
        raise ApiRefusalError(500, f"JSON parse error: Invalid format: {value!r}") from error
