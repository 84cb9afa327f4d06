"""What each service's process finds in its environment: `.env`, what the machine has, what the launcher made up."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg
from dotenv import dotenv_values
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.exc import ArgumentError

from deploy.local.home import SERVICES, Home
from deploy.local.infra.errors import InfraError
from shared.database.engine import conninfo
from shared.database.migrations import Owner

# Passed on so that Python, TLS and tracing work as they do in the launcher.
PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "NO_COLOR", "TERM")
DATABASE_ADMIN: Final = "EXPRESSYNC_DATABASE_ADMIN_URL"
_WHO: Final = ("user", "password", "passfile")
AMQP: Final = "EXPRESSYNC_AMQP_URL"


def read_dotenv(path: Path) -> dict[str, str]:
    """The variables of a `.env` file, where there is one; the process's own environment wins over it."""
    found = {key: value for key, value in dotenv_values(path).items() if value} if path.is_file() else {}
    return {**found, **{key: value for key, value in os.environ.items() if key.startswith(("EXPRESSYNC_", "OTEL_"))}}


def database_variable(service: str) -> str:
    return f"EXPRESSYNC_{service.upper()}_DATABASE_URL"


def owners(home: Home, given: Mapping[str, str]) -> list[Owner]:
    """Each service's schema and role: those of the address that was given for it, or else made here.

    :raises InfraError: when a given address names no role.
    """
    return [
        given_owner(service, given)
        or Owner(service, schema=service, role=f"expressync_{service}", password=home.secret(f"database.{service}"))
        for service in SERVICES
    ]


def given_owner(service: str, given: Mapping[str, str]) -> Owner | None:
    """Role and password as they stand in the service's address, where one was given.

    :raises InfraError: when it names no role.
    """
    url = given.get(database_variable(service))
    if not url:
        return None
    try:
        found = conninfo_to_dict(conninfo(url))
    except (ArgumentError, ValueError, psycopg.Error):
        found = {}
    if not found.get("user"):
        raise InfraError(
            f"{database_variable(service)} names no role.",
            "It is read as postgresql://role:password@host:5432/database, and not shown: a password may stand in it.",
            "Correct it, or leave it out: `expressync up` then makes role and password itself.",
        )
    password = found.get("password")
    return Owner(service, service, str(found["user"]), str(password) if password else None)


def role_url(admin_url: str, owner: Owner) -> str:
    """The address of the administrator's database, as the owner's role, and nothing of who the administrator is."""
    parts = urlsplit(admin_url)
    place = parts.netloc.rpartition("@")[2]
    # Libpq takes it from the query, too, and there first.
    query = "&".join(one for one in parts.query.split("&") if unquote(one.partition("=")[0]) not in _WHO)
    netloc = f"{owner.role}:{quote(owner.password or '', safe='')}@{place}"
    return urlunsplit(parts._replace(netloc=netloc, query=query))


def reached_at(host: str) -> str:
    """The host of a URL by which this machine reaches a service that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True, slots=True)
class Environment:
    """`given` is the operator's; `made` is what the launcher adds where nothing is given."""

    given: Mapping[str, str]
    made: Mapping[str, str]

    def variable(self, name: str) -> str | None:
        return self.given.get(name) or self.made.get(name)

    def of(self, service: str) -> dict[str, str]:
        """One service's environment. Another service's settings, and with them its secrets, are not in it."""
        others = tuple(f"EXPRESSYNC_{other.upper()}_" for other in SERVICES if other != service)
        kept = {
            name: value
            for name, value in {**self.made, **self.given}.items()
            if not name.startswith(others) and name != DATABASE_ADMIN
        }
        return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | kept
