"""Where this installation's PostgreSQL and RabbitMQ are. Looks only: it makes no folder, password or process."""

from dataclasses import dataclass
from typing import Literal

from deploy.local.doctor.target import Target
from deploy.local.environment import AMQP, DATABASE_ADMIN
from deploy.local.infra import docker, rabbitmq
from deploy.local.infra.errors import InfraError
from deploy.local.infra.external import without_password
from deploy.local.infra.folder import Folder
from deploy.local.infra.postgres import Postgres
from deploy.local.infra.rabbitmq import RabbitNode

Way = Literal["url", "wheel", "installed", "unpacked", "docker", "none"]


@dataclass(frozen=True, slots=True)
class Place:
    """A server's address. `running` is None where that is for the server itself to say (it was given by its URL).

    `start` is the command that starts a private one.
    """

    way: Way
    url: str | None
    running: bool | None
    start: str

    @property
    def shown(self) -> str:
        return without_password(self.url) if self.url else "nowhere yet"


def database(target: Target) -> Place:
    given = target.given.get(DATABASE_ADMIN)
    if given:
        return Place("url", given, None, target.up)
    server = Postgres(target.home.folder / "postgres")
    url = server.url if server.port is not None else None
    return _private("wheel", url, target, running=server.folder.locked)


def broker(target: Target) -> Place:
    """Blocks: it may ask whether a Docker engine answers."""
    given = target.given.get(AMQP)
    in_use = next((one[AMQP] for one in target.running.values() if one.get(AMQP)), None)
    if given:
        return Place("url", given, None, target.up)
    folder = Folder(target.home.folder / "rabbitmq")
    way = _way(target)
    # Without a port there was no start yet, and asking for the address would make one.
    known = folder.remembered_port() is not None and (folder.path / "password").exists()
    url = RabbitNode(folder.path, rabbitmq.Installation(way, folder.path)).url if known else None
    if in_use is not None and in_use != url:
        return Place("url", in_use, None, target.up)
    return _private(way, url, target, running=folder.locked)


def _private(way: Way, url: str | None, target: Target, *, running: bool) -> Place:
    # A launcher that is up tries by itself, and answers a second one only that it is up.
    given_up = not running and target.launcher_pid is not None
    return Place(way, url, running, f"expressync down --keep` and `{target.up}" if given_up else target.up)


def _way(target: Target) -> Literal["installed", "unpacked", "docker", "none"]:
    """The launcher's own order (`infra.broker`), without its downloads."""
    if rabbitmq.installed() is not None:
        return "installed"
    tree = target.home.packages / "rabbitmq"
    if tree.exists():
        try:
            rabbitmq.in_tree(tree)
        except InfraError:
            pass
        else:
            return "unpacked"
    return "docker" if docker.engine_answers() else "none"
