"""Draws the console from made-up view models: `python -m tests.browser.preview --help`.

For whoever works on the look. It shows every page in every state, as files to look at (`--shots DIR`) or on a
loopback port (`--serve`), without any service, database or broker.
"""

import argparse
import contextlib
import queue
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from services.admin_api.console.render import Pages
from shared.web.pages import FOR_EVER, SECURITY_HEADERS
from tests.browser.chromium import find
from tests.browser.samples.base import NOW, Sample
from tests.browser.samples.every import SAMPLES

WIDTHS = {1280: 900, 768: 1024, 390: 844}
SCHEMES = ("light", "dark")

One = TypeVar("One")


class Preview(ThreadingHTTPServer):
    """Serves each sample under its name with the product's own headers."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        self.pages = Pages()
        self.listeners: list[queue.SimpleQueue[str | None]] = []
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def push(self, words: str) -> None:
        """A live row with these words, to every page that listens."""
        for listener in self.listeners:
            listener.put(f"<li><span class='t-when'>now</span><div class='t-what'><p>{words}</p></div></li>")

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that leaves a page closes its connections in the middle; nothing here depends on them."""

    def server_close(self) -> None:
        for listener in self.listeners:
            listener.put(None)
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Preview

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        assets = f"{self.server.pages.assets.address}/"
        if path.startswith(assets):
            self._asset(path.removeprefix(assets))
        elif path == "/live/taps":
            self._live()
        else:
            sample = SAMPLES.get(path.lstrip("/") or "overview")
            if sample is None:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"no such sample")
            else:
                html = self.server.pages.render(sample.template, sample.frame, sample.page)
                self._answer(HTTPStatus.OK, "text/html; charset=utf-8", html.encode())

    def _asset(self, path: str) -> None:
        asset = self.server.pages.assets.get(path)
        if asset is None:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"no such asset")
        else:
            self._answer(HTTPStatus.OK, asset.kind, asset.content, {"Cache-Control": FOR_EVER})

    def _live(self) -> None:
        rows: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.server.listeners.append(rows)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.flush()
        with contextlib.suppress(OSError):  # the page was left
            while (row := rows.get()) is not None:
                self.wfile.write(f"event: row\ndata: {row}\n\n".encode())
                self.wfile.flush()
        self.server.listeners.remove(rows)

    def _answer(
        self, status: HTTPStatus, kind: str, body: bytes, headers: Mapping[str, str] = SECURITY_HEADERS
    ) -> None:
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
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**find().launch)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser: Browser, width: int = 1280, scheme: str = "light") -> Iterator[tuple[Page, list[str]]]:
    """A page whose clock stands at the samples' now, and the list that its console complaints go to."""
    context = browser.new_context(
        viewport={"width": width, "height": WIDTHS.get(width, 900)},
        color_scheme="dark" if scheme == "dark" else "light",
        timezone_id="Europe/Berlin",
        locale="en-GB",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.clock.set_fixed_time(NOW)
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        yield page, complaints
    finally:
        context.close()


def findings(page: Page) -> list[str]:
    """What axe finds on the page as it stands, one line each: the rule, and the first places it fails."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: "
        + "; ".join(f"{node['html'][:120]} [{node['failureSummary'][:240]}]" for node in each["nodes"][:3])
        for each in violations
    ]


def overflow(page: Page) -> list[str]:
    """Elements that stand out of the screen or are cut off by their panel."""
    script = """() => {
      const edge = element => element.getBoundingClientRect().right + 1;
      const said = element => 'too wide: ' + element.outerHTML.slice(0, 120);
      const wide = document.documentElement.clientWidth;
      const out = document.documentElement.scrollWidth <= wide ? []
        : [...document.querySelectorAll('main *, header *, nav *')].filter(each => edge(each) - 2 > wide);
      const cut = [...document.querySelectorAll('.panel')].filter(each => each.scrollWidth > each.clientWidth)
        .flatMap(panel => [...panel.querySelectorAll('*')].filter(each => edge(each) - 1 > edge(panel)));
      return [...out, ...cut].slice(0, 5).map(said);
    }"""
    found: list[str] = page.evaluate(script)
    return found


def fullest(
    samples: Iterable[One], length: Callable[[One], int], kind: Callable[[One], object], most: int
) -> list[One]:
    """Of each kind of page so many with most on them: by default no others are looked at."""
    taken: Counter[object] = Counter()
    found = []
    for sample in sorted(samples, key=length, reverse=True):
        taken[kind(sample)] += 1
        if taken[kind(sample)] <= most:
            found.append(sample)
    return found


def faults(page: Page, complaints: list[str], addresses: Iterable[str], *, all_by_axe: bool) -> list[str]:
    """What is wrong with these pages. `all_by_axe`: half a second each; else axe looks at those only that show a kind
    of element which none before showed.
    """
    script = """() => [...document.body.querySelectorAll('*')].filter(each => each.checkVisibility())
      .map(each => [each.tagName, each.getAttribute('class'), each.dataset.state, each.role, each.type,
        each.labels?.length, each.hasAttribute('aria-label')].join(' '))"""
    wrong: list[str] = []
    seen: set[str] = set()
    for address in addresses:
        page.goto(address)
        kinds = set(page.evaluate(script))
        found = findings(page) if all_by_axe or not kinds <= seen else []
        seen |= kinds
        wrong += [f"{address}: {line}" for line in (*found, *overflow(page), *complaints)]
        complaints.clear()
    return wrong


def shoot(samples: list[Sample], folder: Path, widths: list[int], schemes: list[str], *, axe: bool) -> int:
    """Screenshots of all samples; the number of findings (axe, console complaints, overflow), each printed."""
    folder.mkdir(parents=True, exist_ok=True)
    wrong = 0
    with serving() as server, chromium() as browser:
        for width in widths:
            for scheme in schemes:
                with opened(browser, width, scheme) as (page, complaints):
                    for sample in samples:
                        page.goto(server.address + sample.address)
                        found = [*overflow(page), *complaints, *(findings(page) if axe else [])]
                        # As high as the page, so that the bar at the bottom is at the bottom.
                        height = page.evaluate("Math.max(innerHeight, document.documentElement.scrollHeight)")
                        page.set_viewport_size({"width": width, "height": height})
                        page.screenshot(path=folder / f"{sample.name}-{width}-{scheme}.png")
                        page.set_viewport_size({"width": width, "height": WIDTHS[width]})
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
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                return 0
    samples = [SAMPLES[name] for name in chosen.names] or list(SAMPLES.values())
    wrong = shoot(
        samples,
        chosen.shots or Path(".local/preview"),
        chosen.width or list(WIDTHS),
        chosen.scheme or list(SCHEMES),
        axe=chosen.axe,
    )
    sys.stdout.write(f"{len(samples)} pages, {wrong} findings\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
