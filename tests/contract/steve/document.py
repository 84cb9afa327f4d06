"""Checks answers against an OpenAPI 3.1 document."""

import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

ROOT = "urn:steve"


class ApiDocument:
    def __init__(self, document: dict[str, Any]) -> None:
        self._paths: dict[str, Any] = document["paths"]
        resource = DRAFT202012.create_resource(_with_nulls(document))
        self._registry: Registry[Any] = Registry().with_resource(ROOT, resource)

    def operations(self) -> set[tuple[str, str]]:
        """("GET", "/api/v1/ocppTags/{ocppTagPk}"), ... of everything documented."""
        return {
            (method.upper(), path)
            for path, operations in self._paths.items()
            for method in operations
            if method in {"get", "post", "put", "patch", "delete"}
        }

    def check(self, response: httpx.Response) -> tuple[str, str]:
        """Assert that status, content type and body are as documented; the operation that was checked."""
        method, path = response.request.method, response.request.url.path.removeprefix("/steve")
        template = next(one for one in self._paths if _matches(one, path, method, self._paths))
        pointer = ["paths", template, method.lower(), "responses", str(response.status_code)]
        documented = self._paths[template][method.lower()]["responses"]
        assert str(response.status_code) in documented, f"{response.status_code} is not documented"
        content = documented[str(response.status_code)].get("content")
        if content is None:
            assert not response.content
            return method, template
        [media_type] = content
        assert media_type in {response.headers["content-type"], "*/*"}
        escaped = "/".join(one.replace("~", "~0").replace("/", "~1") for one in pointer)
        media = media_type.replace("/", "~1")
        schema = {"$ref": f"{ROOT}#/{escaped}/content/{media}/schema".replace("{", "%7B").replace("}", "%7D")}
        Draft202012Validator(schema, registry=self._registry, format_checker=FormatChecker()).validate(response.json())
        return method, template

    def fields(self, schema: str) -> set[str]:
        """The property names of a component schema."""
        contents: Any = self._registry.contents(ROOT)
        return set(contents["components"]["schemas"][schema]["properties"])


def _matches(template: str, path: str, method: str, paths: dict[str, Any]) -> bool:
    pattern = re.sub(r"\{[^}]+\}", "[^/]+", template)
    return re.fullmatch(pattern, path) is not None and method.lower() in paths[template]


def _with_nulls(node: Any) -> Any:  # noqa: ANN401 - any JSON
    """The document as it would be right: SteVe sends fields without a value as null, which it does not say."""
    if isinstance(node, list):
        return [_with_nulls(one) for one in node]
    if not isinstance(node, dict):
        return node
    copied = {name: _with_nulls(one) for name, one in node.items()}
    properties = copied.get("properties")
    if isinstance(properties, dict):
        required = set(copied.get("required", ()))
        copied["properties"] = {
            name: one if name in required else {"anyOf": [one, {"type": "null"}]} for name, one in properties.items()
        }
    return copied
