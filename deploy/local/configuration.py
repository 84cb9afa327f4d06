"""The services' settings, seen from outside: which there are, and whether a service would start with them."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Final

from deploy.local.environment import AMQP, database_variable
from services.admin_api.settings import AdminApiSettings
from services.audit.settings import AuditSettings
from services.preauth.settings import PreauthSettings
from services.sync.settings import SyncSettings
from shared.runtime import settings as configuration
from shared.runtime.settings import BadConfigurationError, ServiceSettings, variable_name

SETTINGS: Final[Mapping[str, type[ServiceSettings]]] = {
    "preauth": PreauthSettings,
    "sync": SyncSettings,
    "audit": AuditSettings,
    "admin_api": AdminApiSettings,
}
VARIABLES: Final[Mapping[str, frozenset[str]]] = {
    service: frozenset(variable_name(cls, name, one) for name, one in cls.model_fields.items())
    for service, cls in SETTINGS.items()
}


def problems(service: str, environment: Mapping[str, str]) -> list[str]:
    """What the service would refuse to start with: a sentence for each variable, none without a problem.

    What the launcher makes (the addresses of database and broker) need not be there. Call it while nothing else runs:
    the process's environment is exchanged while the settings are read.
    """
    made = {
        AMQP: "amqp://made-by-the-launcher/",
        database_variable(service): "postgresql://made-by-the-launcher/",
    }
    with _as_environment({**made, **environment}):
        try:
            configuration.load(SETTINGS[service])
        except BadConfigurationError as error:
            return error.problems
    return []


@contextlib.contextmanager
def _as_environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
