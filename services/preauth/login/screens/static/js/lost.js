// Tells that the server cannot be reached, when it is tried again, and lets people try at once.
import { say as announce } from "./say.js";
import { put, say } from "./words.js";

const TICK_MS = 250;

export class Lost {
  #panel;
  #next;
  #wake = null;

  constructor(main) {
    this.#panel = main.querySelector("[data-lost]");
    this.#next = this.#panel.querySelector("[data-lost-next]");
    this.#panel.querySelector("[data-lost-now]").addEventListener("click", () => this.#wake?.());
    addEventListener("online", () => this.#wake?.());
  }

  // Resolves when it is time for the next try, or somebody asked for it. `shown`: short losses stay silent.
  async wait(ms, { shown = true, signal } = {}) {
    if (shown) this.#panel.hidden = false;
    const until = performance.now() + ms;
    await new Promise((resolve) => {
      const tick = () => {
        const left = until - performance.now();
        if (left <= 0) return done();
        this.#next.textContent = put(this.#next.dataset.lostNext, { seconds: Math.ceil(left / 1000) });
      };
      const ticking = setInterval(tick, TICK_MS);
      const done = () => {
        clearInterval(ticking);
        signal?.removeEventListener("abort", done);
        this.#wake = null;
        this.#next.textContent = this.#next.dataset.lostTrying;
        resolve();
      };
      this.#wake = done;
      signal?.addEventListener("abort", done);
      if (signal?.aborted) done();
      else tick();
    });
  }

  over() {
    if (this.#panel.hidden) return;
    this.#panel.hidden = true;
    announce(say("found_again"));
  }
}
