"""What each service's process finds in its environment: `.env`, what the machine has, what the launcher made up."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from dotenv import dotenv_values

from deploy.local.home import SERVICES, Home
from shared.database.migrations import Owner

# Passed on so that Python, TLS and tracing work as they do in the launcher.
PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "NO_COLOR", "TERM")
DATABASE_ADMIN: Final = "EXPRESSYNC_DATABASE_ADMIN_URL"
AMQP: Final = "EXPRESSYNC_AMQP_URL"


def read_dotenv(path: Path) -> dict[str, str]:
    """The variables of a `.env` file, where there is one; the process's own environment wins over it."""
    found = {key: value for key, value in dotenv_values(path).items() if value} if path.is_file() else {}
    return {**found, **{key: value for key, value in os.environ.items() if key.startswith(("EXPRESSYNC_", "OTEL_"))}}


def owners(home: Home) -> list[Owner]:
    """Each service's schema and role, with the password made for it here."""
    return [
        Owner(service, schema=service, role=f"expressync_{service}", password=home.secret(f"database.{service}"))
        for service in SERVICES
    ]


def role_url(admin_url: str, owner: Owner) -> str:
    """The address of the administrator's database, as the owner's role."""
    parts = urlsplit(admin_url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{owner.role}:{quote(owner.password, safe='')}@{place}"))


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
