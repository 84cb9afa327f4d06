// How long to wait before the next try: doubling to a limit, spread out, so that a server that comes back is not
// asked by everybody at once. A short first wait, because most losses are short.
const FIRST_MS = 500;
const LIMIT_MS = 8000;

export class Backoff {
  #tries = 0;

  get tries() {
    return this.#tries;
  }

  next(least = FIRST_MS) {
    const wait = Math.min(LIMIT_MS, Math.max(FIRST_MS, least) * 2 ** this.#tries);
    this.#tries += 1;
    return wait * (0.8 + 0.4 * Math.random());
  }

  reset() {
    this.#tries = 0;
  }
}
