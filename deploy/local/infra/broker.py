"""Which RabbitMQ serves: a given URL, the machine's own, unpacked packages, Docker, in this order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deploy.local.infra import docker, packages, rabbitmq
from deploy.local.infra.errors import InfraError
from deploy.local.infra.external import external_rabbitmq
from deploy.local.infra.server import Server

WAYS = ("installed", "unpacked", "docker")


def provide_broker(
    folder: Path, packages_folder: Path, *, url: str | None = None, ways: tuple[str, ...] = WAYS
) -> Server:
    """The RabbitMQ to use, not yet started; `.source` says which way served.

    `folder` is the private node's; downloaded packages are unpacked in `packages_folder` (first use: some seconds,
    35 MB). Raises InfraError, with every way's reason, when none is possible.
    """
    if url:
        return external_rabbitmq(url)
    tried: list[str] = []
    makers: dict[str, Callable[[], Server | None]] = {
        "installed": lambda: _installed(folder, tried),
        "unpacked": lambda: _unpacked(folder, packages_folder, tried),
        "docker": lambda: _docker(folder, tried),
    }
    for way in ways:
        server = makers[way]()
        if server is not None:
            return server
    raise InfraError(
        "No RabbitMQ could be provided.",
        " ".join(tried),
        "Give a RabbitMQ URL, install rabbitmq-server, or start Docker.",
    )


def _installed(folder: Path, tried: list[str]) -> Server | None:
    found = rabbitmq.installed()
    if found is None:
        tried.append(f"None is installed (no complete {rabbitmq.SYSTEM}/rabbitmq_server-* with erl and epmd).")
        return None
    return rabbitmq.RabbitNode(folder, found)


def _unpacked(folder: Path, packages_folder: Path, tried: list[str]) -> Server | None:
    try:
        return rabbitmq.RabbitNode(folder, rabbitmq.in_tree(packages.unpacked(packages_folder)))
    except InfraError as error:
        tried.append(f"{error.what} {error.why}")
        return None


def _docker(folder: Path, tried: list[str]) -> Server | None:
    if docker.engine_answers():
        return docker.DockerNode(folder)
    tried.append("No Docker engine answers.")
    return None
