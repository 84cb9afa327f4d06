"""Draws the driver pages from made-up view models: `python -m tests.browser.driver_pages_preview --help`.

It shows every page in every state as files to look at (`--shots DIR`) or on a loopback port (`--serve`). Behind the
pages stands a desk that answers their calls as told, so that a test can play what happens at a charger.
"""

import argparse
import contextlib
import json
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from services.preauth.login.screens.render import HEADERS, LEAVING, Screens
from services.preauth.login.screens.view import Scan
from shared.web.pages import FOR_EVER
from tests.browser.driver_pages_samples import KIOSK, PHONE, SAMPLES, Sample
from tests.browser.preview import SCHEMES, WIDTHS, chromium, findings, opened, overflow

PAIRING = "018f0000-0000-7000-8000-000000000007"
READ_WITHIN_S = 30.0
STAGES = {"armed": 1, "matched": 2, "intercepted": 3}
Answer = tuple[int, dict[str, Any]]


def refusal(status: int, code: str, **extra: object) -> Answer:
    """A problem as the service words it (RFC 9457)."""
    return status, {**extra, "type": f"urn:expressync:problem:{code}", "title": code, "status": status, "code": code}


@dataclass
class Desk:
    """What the pages' calls are answered. `asked` holds (method, path, body, Last-Event-ID) of each.

    After a login the account does not come before `read` is set: the page that it takes the place of says for a second
    that one is in, in which a busy machine may not look.
    """

    state: str = "armed"
    result: str | None = None
    other_cards: int = 0
    other_card: str | None = None
    expires_in_s: int = 90
    arm: Answer | None = None
    login: list[Answer] = field(default_factory=list)
    away: bool = False
    no_stream: bool = False
    stay: int = HTTPStatus.OK
    read: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str, Any, str | None]] = field(default_factory=list)
    streams: list["queue.SimpleQueue[str | None]"] = field(default_factory=list)

    def view(self) -> dict[str, Any]:
        return {
            "pairing_id": PAIRING,
            "charge_box_id": "CP-7",
            "connector_id": None,
            "code": "K7PX",
            "state": self.state,
            "expires_at": "2026-05-01T09:31:30+00:00",
            "expires_in_s": self.expires_in_s,
            "result": self.result,
            "other_cards": self.other_cards,
            "other_card": self.other_card,
        }

    def event(self) -> str:
        number = STAGES.get(self.state, 4)
        return f"id: {number}\nevent: {self.state}\ndata: {json.dumps(self.view())}\n\n"

    def move(self, state: str, result: str | None = None) -> None:
        """The scan reaches this state, and every page that listens is told."""
        self.state, self.result = state, result
        for stream in self.streams:
            stream.put(self.event())

    def another_card(self, which: str = "another_card") -> None:
        """A card was held to the charger that was not taken."""
        self.other_cards += 1
        self.other_card = which
        number = f"{STAGES[self.state]}.{self.other_cards}"
        for stream in self.streams:
            stream.put(f"id: {number}\nevent: another_card\ndata: {json.dumps(self.view())}\n\n")

    def hang_up(self) -> None:
        """Every stream ends, as a proxy's time limit would end it."""
        for stream in self.streams:
            stream.put(None)

    def calls(self, method: str, ending: str = "") -> list[tuple[str, str, Any, str | None]]:
        return [each for each in self.asked if each[0] == method and each[1].endswith(ending)]


class Preview(ThreadingHTTPServer):
    """Serves each sample under its name with the product's own headers."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        self.screens = Screens()
        self.desk = Desk()
        self.pages: dict[str, Sample] = dict(SAMPLES)
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that leaves a page closes its connections in the middle; nothing here depends on them."""

    def server_close(self) -> None:
        self.desk.hang_up()
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Preview
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self._gone():
            return
        path = urlsplit(self.path).path
        assets = f"{self.server.screens.assets.address}/"
        if path.startswith(assets):
            asset = self.server.screens.assets.get(path.removeprefix(assets))
            if asset is None:
                self._send(HTTPStatus.NOT_FOUND, "text/plain", b"no such asset")
            else:
                self._send(HTTPStatus.OK, asset.kind, asset.content, {"Cache-Control": FOR_EVER})
        elif path == f"/api/pairings/{PAIRING}/events":
            self._events()
        elif path == f"/api/pairings/{PAIRING}":
            self._json((HTTPStatus.OK, self.server.desk.view()))
        else:
            self._page(path)

    def do_POST(self) -> None:
        if self._gone():
            return
        desk, path = self.server.desk, urlsplit(self.path).path
        if path == "/api/pairings":
            self._json(desk.arm or (HTTPStatus.CREATED, desk.view()))
        elif path.endswith("/login"):
            self._json(desk.login.pop(0) if desk.login else (HTTPStatus.OK, {"next": "/me"}))
        else:
            self.send_response(HTTPStatus.SEE_OTHER)
            for name, text in {**LEAVING, "Location": "/out", "Content-Length": "0"}.items():
                self.send_header(name, text)
            self.end_headers()

    def do_DELETE(self) -> None:
        if self._gone():
            return
        if self.server.desk.state == "armed":
            self.server.desk.state = "cancelled"
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()

    def _gone(self) -> bool:
        """Note the call; True when the server plays dead."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        kind = self.headers.get("Content-Type", "")
        held = json.loads(body) if kind == "application/json" and body else body.decode()
        self.server.desk.asked.append((self.command, self.path, held, self.headers.get("Last-Event-ID")))
        if self.server.desk.away:
            self.close_connection = True
        return self.server.desk.away

    def _page(self, path: str) -> None:
        screens, asked = self.server.screens, parse_qs(urlsplit(self.path).query)
        name = path.lstrip("/") or "kiosk"
        if name == "scan":
            frame = KIOSK if "key" not in asked else PHONE
            html = screens.render(frame, Scan(asked["charger"][0]))
        elif name in self.server.pages:
            if name == "me" and self.server.desk.calls("POST", "/login"):
                self.server.desk.read.wait(READ_WITHIN_S)
            sample = self.server.pages[name]
            html = screens.render(sample.frame, sample.page)
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"no such sample")
            return
        status = self.server.desk.stay if name == "me" else HTTPStatus.OK
        self._send(status, "text/html; charset=utf-8", html.encode())

    def _events(self) -> None:
        desk = self.server.desk
        if desk.no_stream:
            self._json(refusal(503, "too_many_waiting"))
            return
        waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        desk.streams.append(waiting)
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):  # the page was left
            self.wfile.write(b"retry: 100\n\n")
            if STAGES.get(desk.state, 4) > int(self.headers.get("Last-Event-ID") or 0):
                self.wfile.write(desk.event().encode())
            self.wfile.flush()
            while (event := waiting.get()) is not None:
                self.wfile.write(event.encode())
                self.wfile.flush()
        desk.streams.remove(waiting)

    def _json(self, answer: Answer) -> None:
        status, body = answer
        kind = "application/json" if status < HTTPStatus.BAD_REQUEST else "application/problem+json"
        self._send(status, kind, json.dumps(body).encode())

    def _send(self, status: int, kind: str, body: bytes, headers: Mapping[str, str] = HEADERS) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Quiet: what matters is on the screen."""


@contextlib.contextmanager
def serving(port: int = 0) -> Iterator[Preview]:
    server = Preview(port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def shoot(
    samples: list[Sample], folder: Path, widths: list[int], schemes: list[str], check: Callable[..., list[str]]
) -> int:
    """Screenshots of all samples; the number of findings, each printed."""
    folder.mkdir(parents=True, exist_ok=True)
    wrong = 0
    with serving() as server, chromium() as browser:
        for width in widths:
            for scheme in schemes:
                with opened(browser, width, scheme) as (page, complaints):
                    for sample in samples:
                        page.goto(server.address + sample.address)
                        found = [*overflow(page), *complaints, *check(page)]
                        page.screenshot(path=folder / f"{sample.name}-{width}-{scheme}.png", full_page=True)
                        complaints.clear()
                        wrong += len(found)
                        for line in found:
                            sys.stdout.write(f"{sample.name} {width} {scheme}: {line}\n")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="samples to draw; all without any")
    parser.add_argument("--shots", type=Path, help="write screenshots into this folder")
    parser.add_argument("--width", type=int, action="append", choices=list(WIDTHS))
    parser.add_argument("--scheme", action="append", choices=list(SCHEMES))
    parser.add_argument("--axe", action="store_true", help="check each page with axe as well")
    parser.add_argument("--serve", type=int, metavar="PORT", help="serve the samples until Ctrl-C")
    chosen = parser.parse_args()
    if chosen.serve is not None:
        with serving(chosen.serve) as server:
            sys.stdout.write("".join(f"{server.address}{sample.address}\n" for sample in SAMPLES.values()))
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
        return 0
    samples = [SAMPLES[name] for name in chosen.names] or list(SAMPLES.values())
    wrong = shoot(
        samples,
        chosen.shots or Path(".local/preview"),
        chosen.width or list(WIDTHS),
        chosen.scheme or list(SCHEMES),
        findings if chosen.axe else lambda _: [],
    )
    sys.stdout.write(f"{len(samples)} pages, {wrong} findings\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
