// Rows that arrive while one looks. The server sends each as the HTML of a list item (event "row"), escaped
// by the same template that drew the page. While paused, or while the pointer or the focus is in the list,
// rows are kept back and counted: nothing moves under a finger.
import { say } from "./say.js";
import { localise } from "./time.js";

const PAUSE = "M7 5v10M13 5v10";
const PLAY = "M7 4.5v11l8.5-5.5z";

class LiveRows {
  #section;
  #rows;
  #button;
  #state;
  #limit;
  #paused = false;
  #held = false;
  #waiting = [];

  constructor(section) {
    this.#section = section;
    this.#rows = section.querySelector("[data-live-rows]");
    this.#button = section.querySelector("[data-live-pause]");
    this.#state = section.querySelector("[data-live-state]");
    this.#limit = Number(section.dataset.liveLimit) || 50;
  }

  start() {
    if (!this.#rows || !this.#button) return;
    const source = new EventSource(this.#section.dataset.live);
    source.addEventListener("open", () => this.#tell("Live"));
    source.addEventListener("error", () => this.#tell("Connection lost, trying again"));
    source.addEventListener("row", (event) => this.#arrived(event.data));
    this.#button.disabled = false;
    this.#button.addEventListener("click", () => this.#toggle());
    for (const [type, held] of [["pointerenter", true], ["pointerleave", false], ["focusin", true], ["focusout", false]]) {
      this.#rows.addEventListener(type, () => {
        this.#held = held;
        this.#flush();
      });
    }
  }

  #toggle() {
    this.#paused = !this.#paused;
    this.#button.setAttribute("aria-pressed", String(this.#paused));
    this.#button.querySelector("[data-live-word]").textContent = this.#paused ? "Go on" : "Pause";
    this.#button.querySelector("path").setAttribute("d", this.#paused ? PLAY : PAUSE);
    say(this.#paused ? "Paused" : "Live");
    this.#flush();
    this.#tell();
  }

  #arrived(html) {
    this.#waiting.push(html);
    if (this.#waiting.length > this.#limit) this.#waiting.shift();
    this.#flush();
    this.#tell();
  }

  #flush() {
    if (this.#paused || this.#held || !this.#waiting.length) return;
    for (const html of this.#waiting.splice(0)) {
      const template = document.createElement("template");
      template.innerHTML = html;
      const row = template.content.firstElementChild;
      if (!row) continue;
      row.dataset.new = "";
      localise(row);
      this.#rows.prepend(row);
    }
    while (this.#rows.children.length > this.#limit) this.#rows.lastElementChild.remove();
    this.#section.querySelector(".empty")?.remove();
    this.#tell();
  }

  #tell(words) {
    if (words) this.#state.dataset.words = words;
    const kept = this.#waiting.length ? `, ${this.#waiting.length} new` : "";
    this.#state.textContent = `${this.#paused ? "Paused" : this.#state.dataset.words ?? "Live"}${kept}`;
  }
}

export function startLive() {
  for (const section of document.querySelectorAll("[data-live]")) new LiveRows(section).start();
}
