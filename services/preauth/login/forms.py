"""Forms and JSON bodies of drivers' browsers, read with a bound on what they may cost."""

from typing import Any, Final
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from shared.web.body import read_body
from shared.web.problems import BadBody

MOST_BYTES: Final = 16 * 1024
MOST_FIELDS: Final = 20


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


async def read_json(request: Request, model: type[Any]) -> Any:  # noqa: ANN401 - an instance of `model`
    """:raises TooLarge, BadBody: for what is not the model as JSON."""
    body = await read_body(request, MOST_BYTES)
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise BadBody("The body must be application/json.")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadBody(f"{where or 'body'}: {first['msg']}") from error


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form; of one that comes twice, the last.

    :raises TooLarge, BadBody: for what is no form of a reasonable size.
    """
    body = await read_body(request, MOST_BYTES)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError as error:  # also UnicodeDecodeError
        raise BadBody("The body must be application/x-www-form-urlencoded, with a few fields.") from error
