"""The documents that are made from the code: schemas, AsyncAPI, OpenAPI, `.env.example`. `make schemas` writes them.

`--check` writes nothing and fails where one is not what the code says.
"""

import importlib.metadata
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from deploy.local.home import root
from services.admin_api.main import openapi_document
from services.admin_api.settings import AdminApiSettings
from services.audit.settings import AuditSettings
from services.preauth.settings import PreauthSettings
from services.sync.settings import SyncSettings
from shared.contracts import schemas
from shared.contracts.events import admin_api, preauth, sync
from shared.contracts.requests import audit as audit_requests
from shared.contracts.requests import preauth as preauth_requests
from shared.contracts.requests import sync as sync_requests
from shared.contracts.requests import sync_cards, sync_work
from shared.runtime.settings import ServiceSettings, variable_name

# Loaded so that their classes are registered.
VOCABULARY = (admin_api, preauth, sync, audit_requests, preauth_requests, sync_requests, sync_cards, sync_work)
SETTINGS: tuple[type[ServiceSettings], ...] = (PreauthSettings, SyncSettings, AdminApiSettings, AuditSettings)
# Made by the launcher; whoever runs the services by other means sets them.
MADE = ("database_url", "amqp_url")
WIDTH = 100

ENV_HEAD = """\
# ExpresSync's settings. Copy this file to .env and fill in what has no value; what stands behind a # is the default.
# `expressync doctor` tells what is missing or wrong.

# PostgreSQL, as a role that may create roles and schemas, and in it a database of ExpresSync's own (CREATE DATABASE
# expressync): whatever rights everybody has to the database and its schema `public` are taken away. One that holds the
# tables of others is refused. Without it, a private PostgreSQL runs under .local/.
# EXPRESSYNC_DATABASE_ADMIN_URL=postgresql://postgres:secret@127.0.0.1:5432/expressync
# RabbitMQ. Without it: an installed rabbitmq-server as a private node, unpacked packages under .local/, or Docker.
# EXPRESSYNC_AMQP_URL=amqp://user:secret@127.0.0.1:5672/

# Where traces go, over OTLP/HTTP. Without it they stay in the process.
# OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318
"""

ENV_DATABASES = """
# Each service's database, as a role of its own, which loses every right beyond its schema. `expressync up` makes role,
# password and address itself; whoever runs the services by other means sets them, and `expressync migrate` then makes
# these roles with these passwords. Without a password in the address, the role's own is left as it is.
"""

ENV_OUTSIDE = """
# --- Read from the environment only, not from this file --------------------------------------------------
# Folder for data, logs and unpacked packages, instead of .local/ beside the checkout.
# EXPRESSYNC_HOME=
# Address of the console, for the operators' commands; without it, the one that `expressync login` kept.
# EXPRESSYNC_URL=http://127.0.0.1:8090
# An API token for the same commands, instead of `expressync login`.
# EXPRESSYNC_TOKEN=
"""


def _text(document: Any) -> str:  # noqa: ANN401 - any JSON
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=False) + "\n"


def _default(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | dict):
        return json.dumps(value)
    return str(value)


def env_example() -> str:
    """Every setting of every service, with what it means and its default."""
    databases = "".join(f"# {_prefix(cls)}DATABASE_URL={_role_address(cls)}\n" for cls in SETTINGS)
    lines = [ENV_HEAD + ENV_DATABASES + databases]
    shared: set[str] = set()
    for cls in SETTINGS:
        service = _service(cls)
        own: list[str] = []
        for name, field in cls.model_fields.items():
            variable = variable_name(cls, name, field)
            if variable in shared or name in MADE:
                continue
            common = isinstance(field.validation_alias, str)
            required = field.is_required()
            default = "" if required else _default(field.get_default(call_default_factory=True))
            told = f"{str(field.description).rstrip('.')}{' (required)' if required else ''}."
            entry = "".join(f"# {line}\n" for line in textwrap.wrap(told, WIDTH + 16))
            entry += f"{variable}=\n" if required else f"# {variable}={default}\n"
            if common:
                shared.add(variable)
                lines.append(entry.rstrip())
            else:
                own.append(entry.rstrip())
        lines.append(f"\n# --- {service} " + "-" * (WIDTH - len(service)))
        lines += own
    return "\n".join(lines) + "\n" + ENV_OUTSIDE


def _prefix(cls: type[ServiceSettings]) -> str:
    return str(cls.model_config.get("env_prefix", ""))


def _service(cls: type[ServiceSettings]) -> str:
    return _prefix(cls).removeprefix("EXPRESSYNC_").rstrip("_").lower()


def _role_address(cls: type[ServiceSettings]) -> str:
    return f"postgresql://expressync_{_service(cls)}:secret@127.0.0.1:5432/expressync"


def documents() -> dict[Path, str]:
    """All documents, by their place in the checkout."""
    version = importlib.metadata.version("expressync")
    contracts = Path("docs", "contracts")
    made: dict[Path, str] = {
        contracts / "asyncapi.json": _text(schemas.asyncapi(version)),
        contracts / "openapi.json": _text(openapi_document()),
        Path(".env.example"): env_example(),
    }
    for name, schema in schemas.event_schemas().items():
        made[contracts / "events" / f"{name}.json"] = _text(schema)
    for name, schema in schemas.request_schemas().items():
        made[contracts / "requests" / f"{name}.json"] = _text(schema)
    return made


def main() -> int:
    check = "--check" in sys.argv[1:]
    made = documents()
    stale = [path for path, text in made.items() if not _is(root() / path, text)]
    known = {root() / path for path in made}
    left_over = [p for folder in ("events", "requests") for p in (root() / "docs/contracts" / folder).glob("*.json")]
    gone = [path for path in left_over if path not in known]
    if check:
        for path in [*stale, *gone]:
            print(f"{path} is not what the code says.", file=sys.stderr)
        if stale or gone:
            print("Write it anew with `make schemas`.", file=sys.stderr)
        return 1 if stale or gone else 0
    for path in stale:
        (root() / path).parent.mkdir(parents=True, exist_ok=True)
        (root() / path).write_text(made[path])
        print(path)
    for path in gone:
        path.unlink()
    return 0


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


if __name__ == "__main__":
    raise SystemExit(main())
