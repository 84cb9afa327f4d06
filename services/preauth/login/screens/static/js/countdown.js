// A ring that empties, and the same as text. The deadline is kept on the page's own monotonic clock.
import { say as announce } from "./say.js";
import { amount, fill, say } from "./words.js";

const TICK_MS = 250;
const SOON_S = 15;
const SAID_AT_S = [60, 30, 15, 5];

export class Countdown {
  #ring;
  #circle;
  #deadline;
  #windowMs;
  #values;
  #ended;
  #ticking;
  #said;

  constructor(ring, { leftS, windowS, values, ended }) {
    this.#ring = ring;
    this.#circle = ring.querySelector(".left");
    this.#deadline = performance.now() + leftS * 1000;
    this.#windowMs = Math.max(windowS, leftS) * 1000;
    this.#values = values;
    this.#ended = ended;
    this.#said = SAID_AT_S.filter((each) => each < leftS);
    this.#ticking = setInterval(() => this.#tick(), TICK_MS);
    this.#tick();
  }

  stop() {
    clearInterval(this.#ticking);
  }

  #tick() {
    const leftMs = Math.max(0, this.#deadline - performance.now());
    const seconds = Math.ceil(leftMs / 1000);
    this.#circle.setAttribute("stroke-dashoffset", String(100 - (leftMs / this.#windowMs) * 100));
    this.#ring.toggleAttribute("data-soon", seconds <= SOON_S);
    fill(this.#ring, { ...this.#values, seconds });
    if (this.#said.length && seconds <= this.#said[0]) {
      const [due] = this.#said.filter((each) => each >= seconds).slice(-1);
      this.#said = this.#said.filter((each) => each < due);
      announce(say("left", { time: amount("seconds", seconds) }));
    }
    if (leftMs === 0) {
      this.stop();
      this.#ended();
    }
  }
}
