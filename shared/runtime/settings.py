"""Settings come from the environment; a wrong one stops the program and is named."""

import difflib
import os
import sys
from collections.abc import Iterator
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

S = TypeVar("S", bound="ServiceSettings")


def shared_setting(variable: str, *, description: str, **kwargs: Any) -> Any:  # noqa: ANN401 - like pydantic's Field
    """A setting that all services read from the same variable."""
    return Field(validation_alias=variable, description=description, **kwargs)


class ServiceSettings(BaseSettings):
    """What every service needs. A subclass sets `env_prefix` to `EXPRESSYNC_<SERVICE>_`."""

    model_config = SettingsConfigDict(
        env_prefix="EXPRESSYNC_",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: SecretStr = Field(description="PostgreSQL, as this service's own role")
    host: str = Field("127.0.0.1", description="Address the service listens on")
    port: int = Field(ge=0, le=65535, description="Port the service serves its users on; 0 picks a free one")
    ops_host: str = Field("127.0.0.1", description="Address of the ops port; to open it lets others read the metrics")
    ops_port: int = Field(ge=0, le=65535, description="Port of /healthz, /readyz and /metrics")
    amqp_url: SecretStr = shared_setting("EXPRESSYNC_AMQP_URL", description="RabbitMQ")
    log_format: str = shared_setting(
        "EXPRESSYNC_LOG_FORMAT", default="json", pattern="^(json|console)$", description="json or console"
    )
    log_level: str = shared_setting(
        "EXPRESSYNC_LOG_LEVEL",
        default="info",
        pattern="^(debug|info|warning|error)$",
        description="debug, info, warning or error",
    )
    stop_grace_s: float = shared_setting(
        "EXPRESSYNC_STOP_GRACE_S", default=10.0, gt=0, le=60, description="Seconds a stop may take"
    )

    def niceness(self) -> int:
        """How far the process gives way to the others on its machine (`nice`): 0 where somebody waits for it."""
        return 0

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, url: SecretStr) -> SecretStr:
        try:
            backend = make_url(url.get_secret_value()).get_backend_name()
        except (ArgumentError, ValueError):
            backend = ""
        if backend not in {"postgresql", "postgres"}:
            # Without what stands there: it may hold a password.
            raise ValueError("is no address of a PostgreSQL, like postgresql://role:password@host:5432/database")
        return url

    @field_validator("amqp_url")
    @classmethod
    def _is_rabbitmq(cls, url: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(url.get_secret_value())
            complete = parts.scheme in {"amqp", "amqps"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            complete = False
        if not complete:
            raise ValueError("is no address of a RabbitMQ, like amqp://user:password@host:5672/")
        return url


class BadConfigurationError(Exception):
    """One or more settings are missing or wrong. `problems` has a sentence for each one."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def variable_name(cls: type[BaseSettings], name: str, field: FieldInfo) -> str:
    """The environment variable that feeds a field."""
    if isinstance(field.validation_alias, str):
        return field.validation_alias
    return f"{cls.model_config.get('env_prefix', '')}{name}".upper()


def _problems(cls: type[BaseSettings], error: ValidationError) -> Iterator[str]:
    variables = {name: variable_name(cls, name, field) for name, field in cls.model_fields.items()}
    for found in error.errors():
        location = str(found["loc"][0]) if found["loc"] else ""
        variable = variables.get(location, location)
        if found["type"] == "missing":
            field = next((f for n, f in cls.model_fields.items() if variables[n] == variable), None)
            yield f"{variable} is not set ({field.description if field else 'required'})"
        elif not location:
            yield found["msg"].removeprefix("Value error, ")
        else:
            yield f"{variable}: {found['msg'].removeprefix('Value error, ')}"


def _unknown(cls: type[BaseSettings]) -> Iterator[str]:
    prefix = str(cls.model_config.get("env_prefix", "")).upper()
    known = {variable_name(cls, name, field) for name, field in cls.model_fields.items()}
    for variable in sorted(os.environ):
        if variable.upper().startswith(prefix) and variable.upper() not in known:
            near = difflib.get_close_matches(variable.upper(), known, n=1)
            yield f"{variable} is not a setting" + (f"; did you mean {near[0]}?" if near else "")


def load(cls: type[S], **given: Any) -> S:  # noqa: ANN401 - whatever the subclass takes
    """Read and check a service's settings.

    :raises BadConfigurationError: naming every variable that is missing, wrong or unknown under the
        service's own prefix. Values are never repeated: they may be secrets.
    """
    problems = list(_unknown(cls)) if cls.model_config.get("env_prefix") != "EXPRESSYNC_" else []
    settings: S | None = None
    try:
        settings = cls(**given)
    except ValidationError as error:
        problems = [*_problems(cls, error), *problems]
    if problems or settings is None:
        raise BadConfigurationError(problems)
    return settings


def stop_with(error: BadConfigurationError, program: str) -> NoReturn:
    """Say what is wrong, why nothing started and what to do; exit 2."""
    print(f"{program} did not start: its configuration is wrong.", file=sys.stderr)  # noqa: T201 - logging is not up yet
    for problem in error.problems:
        print(f"  {problem}", file=sys.stderr)  # noqa: T201
    print("Set it in the environment or in .env; .env.example explains each setting.", file=sys.stderr)  # noqa: T201
    raise SystemExit(2)
