// Server-sent events (HTML, 9.2) over fetch. EventSource gives up for good on an error status and does not let one say
// where to go on after a reload; here every connection carries Last-Event-ID, and a silent one is given up.
import { Backoff } from "./backoff.js";

// The server speaks at once, and then at least every 15 s. Silence at the start is a proxy that holds the stream back.
const FIRST_WORD_MS = 5_000;
const QUIET_MS = 35_000;

export class Stream {
  #path;
  #heard;
  #lost;
  #missed;
  #stopped = new AbortController();
  #backoff = new Backoff();
  #lastId;
  #retryMs;

  // `heard(event)` gets {id, name, data}. `missed()` is asked whenever a connection ended or was refused: it looks how
  // things stand, since what the stream would have told may have happened meanwhile, and says whether to go on; when it
  // cannot reach the server either, `lost` shows that.
  constructor(path, { heard, missed, lost, lastId = "" }) {
    this.#path = path;
    this.#heard = heard;
    this.#missed = missed;
    this.#lost = lost;
    this.#lastId = lastId;
  }

  stop() {
    this.#stopped.abort();
  }

  async run() {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      await this.#connection(signal).catch(() => undefined);
      if (signal.aborted) return;
      let reachable = true;
      let more = true;
      try {
        more = await this.#missed();
      } catch {
        reachable = false;
      }
      if (!more || signal.aborted) return;
      const wait = this.#backoff.next(this.#retryMs);
      await this.#lost.wait(wait, { shown: !reachable && this.#backoff.tries > 1, signal });
    }
  }

  async #connection(signal) {
    const ended = new AbortController();
    const end = () => ended.abort();
    signal.addEventListener("abort", end);
    let timer = setTimeout(end, FIRST_WORD_MS);
    const headers = { Accept: "text/event-stream" };
    if (this.#lastId !== "") headers["Last-Event-ID"] = this.#lastId;
    try {
      const response = await fetch(this.#path, {
        headers,
        cache: "no-store",
        credentials: "same-origin",
        signal: ended.signal,
      });
      const kind = response.headers.get("content-type") ?? "";
      if (response.status !== 200 || !kind.startsWith("text/event-stream")) return;
      const parser = new Parser((event) => this.#take(event));
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(end, QUIET_MS);
        this.#backoff.reset();
        this.#lost.over();
        parser.feed(value);
      }
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
    }
  }

  #take(event) {
    if (event.id !== null) this.#lastId = event.id;
    if (event.retry !== null) this.#retryMs = event.retry;
    if (event.data !== null) this.#heard({ id: this.#lastId, name: event.name, data: event.data });
  }
}

export class Parser {
  #told;
  #rest = "";
  #event = Parser.#empty();

  constructor(told) {
    this.#told = told;
  }

  static #empty() {
    return { id: null, name: "message", data: null, retry: null };
  }

  feed(text) {
    this.#rest += text;
    // A carriage return at the very end may be half of a line's end.
    const lines = this.#rest.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === "") {
      this.#told(this.#event);
      this.#event = Parser.#empty();
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "id" && !value.includes("\0")) this.#event.id = value;
    if (field === "event") this.#event.name = value;
    if (field === "data") this.#event.data = this.#event.data === null ? value : `${this.#event.data}\n${value}`;
    if (field === "retry" && /^\d+$/.test(value)) this.#event.retry = Number(value);
  }
}
