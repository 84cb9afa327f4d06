"""A Docker engine that has no containers: its API on a unix socket, and the local servers behind it.

It answers what docker-py, testcontainers and the `docker` command ask for when they run one server, and runs a real
PostgreSQL or RabbitMQ in place of the image, on the port and with the password that were asked for. So what is asked
of an engine is tested, and what comes of it; that an engine understands it and that the images exist is not.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socketserver
import struct
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from deploy.local.infra.broker import provide_broker
from deploy.local.infra.folder import Folder
from deploy.local.infra.postgres import Postgres, binaries
from deploy.local.infra.server import Server
from tests.infra import PACKAGES

API_VERSION = "1.44"
VERSION = {
    "Version": "0-fake",
    "ApiVersion": API_VERSION,
    "MinAPIVersion": "1.24",
    "Os": "linux",
    "Arch": "amd64",
    "Components": [],
}


Query = dict[str, list[str]]
Body = dict[str, Any]


class Container:
    def __init__(self, name: str, config: dict[str, Any], folder: Path) -> None:
        self.id = uuid.uuid4().hex * 2
        self.name = name
        self.config = config
        self.paused = False
        self.ended = threading.Event()
        ((self.inside, (self.binding,)),) = config["HostConfig"]["PortBindings"].items()
        env = dict(item.split("=", 1) for item in config["Env"])
        # What the real image does with its variables, the private servers do with their folder.
        volume = Folder(folder)
        volume.write("port", self.binding["HostPort"])
        if config["Image"].startswith("postgres"):
            volume.write("password", env["POSTGRES_PASSWORD"])
            self.server: Server = Postgres(folder, fsync=False)
        else:
            # The real image makes its user in an empty volume only: later passwords are not looked at.
            if not (folder / "password").exists():
                volume.write("password", env["RABBITMQ_DEFAULT_PASS"])
            self.server = provide_broker(folder, PACKAGES, ways=("installed", "unpacked"))
        self.auto_remove = bool(config["HostConfig"].get("AutoRemove"))

    def inspect(self) -> dict[str, Any]:
        running = self.server.running
        status = "paused" if self.paused else "running" if running else "exited"
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "Image": "sha256:0",
            "Config": self.config,
            "State": {"Status": status, "Running": running, "Pid": self.server.pid or 0},
            "HostConfig": self.config["HostConfig"],
            "NetworkSettings": {"Ports": {self.inside: [self.binding]}},
        }


class Engine:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images: set[str] = set()
        self.containers: dict[str, Container] = {}
        self.execs: dict[str, tuple[Container, list[str], int]] = {}
        # What was asked, for the tests to look at.
        self.calls: list[str] = []

    def create(self, name: str, config: dict[str, Any]) -> Container:
        volumes = [bind.split(":")[0] for bind in config["HostConfig"].get("Binds") or []]
        container = Container(name, config, self.folder / (volumes[0] if volumes else uuid.uuid4().hex))
        self.containers[container.id] = container
        return container

    def find(self, name: str) -> Container | None:
        for container in self.containers.values():
            if name in {container.id, container.name}:
                return container
        return None

    def act(self, container: Container, verb: str, query: Query) -> None:
        if verb == "start":
            container.ended.clear()
            container.server.start()
        elif verb in {"pause", "unpause"}:
            container.paused = verb == "pause"
            (container.server.freeze if container.paused else container.server.thaw)()
        elif verb == "kill" and query.get("signal", ["KILL"])[0] in {"KILL", "SIGKILL"}:
            self._ended(container, container.server.kill)
        else:
            self._ended(container, container.server.stop)

    def remove(self, container: Container) -> None:
        self.containers.pop(container.id, None)
        self._ended(container, container.server.stop)

    def _ended(self, container: Container, how: Callable[[], None]) -> None:
        how()
        if container.auto_remove:
            self.containers.pop(container.id, None)
        container.ended.set()

    def run(self, container: Container, argv: list[str]) -> tuple[int, bytes]:
        """An exec: the command runs here, with PostgreSQL's own programs and where its server really listens."""
        env = {"PATH": f"{binaries()}:{os.defpath}", "PGPORT": container.binding["HostPort"]}
        done = subprocess.run(argv, env=env, capture_output=True, check=False)
        return done.returncode, done.stdout + done.stderr


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Listener

    def do_GET(self) -> None:
        self._route("GET")

    def do_HEAD(self) -> None:
        self._route("HEAD")

    def do_POST(self) -> None:
        self._route("POST")

    def do_DELETE(self) -> None:
        self._route("DELETE")

    def log_message(self, *_args: object) -> None:
        """Nobody reads it."""

    def address_string(self) -> str:
        return "unix"

    def _route(self, method: str) -> None:
        parts = urlsplit(self.path)
        path = re.sub(r"^/v[\d.]+", "", parts.path)
        query = parse_qs(parts.query)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        self.server.engine.calls.append(f"{method} {path}")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if path == "/containers/json":
                wanted = json.loads(query.get("filters", ["{}"])[0]).get("id", [])
                found = [c.inspect() for c in self.server.engine.containers.values() if c.id in wanted]
                self._answer(HTTPStatus.OK, [{"Id": one["Id"], "State": one["State"]["Status"]} for one in found])
            elif match := re.fullmatch(r"/containers/([^/]+)(?:/(\w+))?", path):
                self._container(method, match[1], match[2], query, body)
            elif match := re.fullmatch(r"/exec/([^/]+)/(\w+)", path):
                self._exec(match[1], match[2])
            else:
                self._rest(method, path, query)

    def _rest(self, method: str, path: str, query: Query) -> None:
        images = self.server.engine.images
        if path == "/_ping":
            self._answer(HTTPStatus.OK, None if method == "HEAD" else "OK")
        elif path == "/version":
            self._answer(HTTPStatus.OK, VERSION)
        elif path == "/images/create":
            images.add(f"{query['fromImage'][0]}:{query.get('tag', ['latest'])[0]}")
            self._answer(HTTPStatus.OK, {"status": "Downloaded"})
        elif match := re.fullmatch(r"/images/(.+)/json", path):
            known = match[1] in images
            self._answer(
                HTTPStatus.OK if known else HTTPStatus.NOT_FOUND, {"Id": "sha256:0", "message": "no such image"}
            )
        elif path.startswith("/volumes/") and method == "DELETE":
            self._answer(HTTPStatus.NO_CONTENT, None)
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"message": f"{path} is not part of this engine"})

    def _container(self, method: str, name: str, verb: str | None, query: Query, body: Body) -> None:
        engine = self.server.engine
        if name == "create":
            if body["Image"] not in engine.images:
                self._answer(HTTPStatus.NOT_FOUND, {"message": f"No such image: {body['Image']}"})
                return
            container = engine.create(query.get("name", ["unnamed"])[0], body)
            self._answer(HTTPStatus.CREATED, {"Id": container.id, "Warnings": []})
            return
        found = engine.find(name)
        if found is None:
            self._answer(HTTPStatus.NOT_FOUND, {"message": f"No such container: {name}"})
        elif method == "DELETE":
            engine.remove(found)
            self._answer(HTTPStatus.NO_CONTENT, None)
        elif verb == "json":
            self._answer(HTTPStatus.OK, found.inspect())
        elif verb == "exec":
            number = uuid.uuid4().hex
            engine.execs[number] = (found, body["Cmd"], 0)
            self._answer(HTTPStatus.CREATED, {"Id": number})
        elif verb == "wait":
            self._wait(found)
        elif verb == "attach":
            self._upgrade()
            found.ended.wait()
        else:
            engine.act(found, str(verb), query)
            self._answer(HTTPStatus.NO_CONTENT, None)

    def _wait(self, container: Container) -> None:
        # The headers at once: the docker command waits for them before it starts the container.
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.flush()
        container.ended.wait()
        self.wfile.write(b'{"StatusCode": 0}')
        self.close_connection = True

    def _exec(self, number: str, verb: str) -> None:
        engine = self.server.engine
        container, argv, code = engine.execs[number]
        if verb == "json":
            self._answer(HTTPStatus.OK, {"ID": number, "Running": False, "ExitCode": code})
            return
        code, output = engine.run(container, argv)
        engine.execs[number] = (container, argv, code)
        self._upgrade()
        # Docker's multiplexed stream: kind, three zeros, length.
        self.wfile.write(struct.pack("!BxxxI", 1, len(output)) + output)

    def _upgrade(self) -> None:
        self.send_response(HTTPStatus.SWITCHING_PROTOCOLS)
        self.send_header("Content-Type", "application/vnd.docker.raw-stream")
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "tcp")
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True

    def _answer(self, status: HTTPStatus, content: object) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Api-Version", API_VERSION)
        self.send_header("Content-Type", "application/json")
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Listener(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, engine: Engine) -> None:
        self.engine = engine
        super().__init__(str(path), Handler)


@contextlib.contextmanager
def fake_engine(folder: Path) -> Iterator[Engine]:
    """An engine at `folder`/docker.sock, as a DOCKER_HOST of `unix://...`."""
    folder.mkdir(parents=True)
    engine = Engine(folder)
    with Listener(folder / "docker.sock", engine) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield engine
        finally:
            for container in list(engine.containers.values()):
                engine.remove(container)
            listener.shutdown()
            thread.join()
