// A scan from Start to the driver's page. What is shown follows the server's stages; a page that was reloaded or lost
// its connection goes on where it was, also after the match.
import { Unreachable, call } from "./api.js";
import { Backoff } from "./backoff.js";
import { Countdown } from "./countdown.js";
import { returnHome } from "./home.js";
import { Lost } from "./lost.js";
import { stayAwake } from "./awake.js";
import { Stream } from "./stream.js";
import { say as announce } from "./say.js";
import { fill, span } from "./words.js";

const PAIRINGS = "/api/pairings";
// "You are in" is to be read before the next page comes.
const READ_MS = 1_200;
const LEAST_WAIT_S = 5;

const goesOn = ({ state, result }) =>
  ["armed", "matched", "intercepted"].includes(state) || (state === "consumed" && result === "login");

export class Scan {
  #main;
  #stage;
  #leads;
  #charger;
  #key;
  #lost;
  #pairing = null;
  #stream = null;
  #countdown = null;
  #stopReturning = () => undefined;
  #waiting = 0;
  #completing = false;
  #others = 0;

  constructor(main) {
    this.#main = main;
    this.#stage = main.querySelector("#stage");
    this.#charger = main.dataset.charger;
    this.#leads = JSON.parse(main.dataset.leads);
    this.#lost = new Lost(main);
    this.#key = this.#takeKey();
    main.addEventListener("click", (event) => {
      const button = event.target.closest?.("[data-do]");
      if (!button || button.disabled) return;
      // Its form is for browsers without scripts.
      event.preventDefault();
      this.#do(button.dataset.do);
    });
    main.addEventListener("submit", (event) => {
      if (!event.target.matches("[data-pin]")) return;
      event.preventDefault();
      this.#complete(new FormData(event.target).get("pin"));
    });
  }

  async begin() {
    this.#stopReturning = returnHome(this.#stage);
    const earlier = this.#remembered();
    if (earlier) {
      const found = await this.#patiently(() => call(`${PAIRINGS}/${earlier}`));
      if (found.ok && goesOn(found.answer)) return this.#follow(found.answer);
      this.#forget();
    }
    // Chosen on the kiosk's own list: one touch is enough.
    if (sessionStorage.getItem("start") === this.#charger) {
      sessionStorage.removeItem("start");
      if (this.#stage.querySelector('[data-do="start"]')) await this.#start();
    }
  }

  // The secret of a QR code does not stay in the address bar, nor in the history.
  #takeKey() {
    const address = new URL(location.href);
    const name = `key:${this.#charger}`;
    const key = address.searchParams.get("key") ?? sessionStorage.getItem(name);
    if (address.searchParams.has("key")) {
      sessionStorage.setItem(name, key);
      address.searchParams.delete("key");
      history.replaceState(null, "", address);
    }
    return key;
  }

  #remembered() {
    return sessionStorage.getItem(`scan:${this.#charger}`);
  }

  #forget() {
    sessionStorage.removeItem(`scan:${this.#charger}`);
    this.#stream?.stop();
    this.#stream = null;
    this.#pairing = null;
  }

  #do(what) {
    if (what === "cancel") this.#cancel();
    else this.#start();
  }

  // Shows one screen, with the focus on its heading: whoever does not see it hears it.
  #show(screen, values = {}) {
    this.#countdown?.stop();
    this.#stopReturning();
    clearInterval(this.#waiting);
    const template = document.querySelector(`template[data-screen="${screen}"]`);
    this.#stage.replaceChildren(template.content.cloneNode(true));
    fill(this.#stage, values);
    const heading = this.#stage.querySelector("h1");
    document.title = heading.textContent;
    (this.#stage.querySelector('[data-pin] [name="pin"]') ?? heading).focus();
    if (this.#stage.querySelector("[data-over]")) this.#forget();
    this.#stopReturning = returnHome(this.#stage);
  }

  #showProblem(answer) {
    const screen = this.#leads.problems[answer.code] ?? "failed";
    const seconds = Math.max(LEAST_WAIT_S, Number(answer.retry_after_s) || 60);
    this.#show(screen, { wait: span(seconds) });
    const again = this.#stage.querySelector("[data-wait]");
    if (!again) return;
    const until = performance.now() + seconds * 1000;
    this.#waiting = setInterval(() => {
      const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
      fill(this.#stage, { wait: span(left) });
      again.disabled = left > 0;
      if (left === 0) clearInterval(this.#waiting);
    }, 1000);
  }

  // Tries until somebody answers; what the driver started is not given up because of a bad connection.
  async #patiently(attempt) {
    const backoff = new Backoff();
    for (;;) {
      try {
        const found = await attempt();
        this.#lost.over();
        return found;
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        await this.#lost.wait(backoff.next(), { shown: true });
      }
    }
  }

  async #start() {
    this.#forget();
    this.#completing = false;
    for (const button of this.#stage.querySelectorAll("[data-do]")) button.disabled = true;
    const body = { charge_box_id: this.#charger };
    if (this.#main.dataset.connector) body.connector_id = Number(this.#main.dataset.connector);
    if (this.#key) body.key = this.#key;
    const { ok, answer } = await this.#patiently(() => call(PAIRINGS, "POST", body));
    if (!ok) return this.#showProblem(answer);
    this.#follow(answer);
  }

  #follow(found) {
    this.#pairing = found.pairing_id;
    sessionStorage.setItem(`scan:${this.#charger}`, found.pairing_id);
    this.#reached(found);
    if (this.#pairing !== null && !this.#completing) this.#listen();
  }

  #listen() {
    this.#stream?.stop();
    this.#stream = new Stream(`${PAIRINGS}/${this.#pairing}/events`, {
      heard: ({ data }) => this.#reached(JSON.parse(data)),
      missed: () => this.#look(),
      lost: this.#lost,
    });
    this.#stream.run();
  }

  // The stream ended or never came (a proxy may hold it back): asks how things stand. False: nothing more to wait for.
  async #look() {
    if (this.#pairing === null) return false;
    const { ok, answer } = await call(`${PAIRINGS}/${this.#pairing}`);
    this.#lost.over();
    if (ok) this.#reached(answer);
    else this.#showProblem(answer);
    return this.#pairing !== null && (!this.#completing || this.#asks);
  }

  #reached(found) {
    if (found.pairing_id !== this.#pairing) return;
    const ended = found.state === "consumed" && found.result !== "login";
    if (this.#completing && !(this.#asks && ended)) {
      if (this.#asks) this.#tellLater(found);
      return;
    }
    if (found.state === "intercepted" || (found.state === "consumed" && found.result === "login")) {
      this.#complete();
      return;
    }
    // What it came to says more than that it ended.
    const screen = this.#leads.results[found.result] ?? this.#leads.states[found.state] ?? "over";
    if (screen !== "wait") {
      if (screen !== this.#shown) this.#show(screen);
    } else if (!this.#waits || found.other_cards > this.#others) {
      this.#others = found.other_cards;
      this.#wait(found);
    }
  }

  get #waits() {
    return this.#shown === "wait" || Object.values(this.#leads.cards).includes(this.#shown);
  }

  get #asks() {
    return this.#completing && this.#leads.pins.includes(this.#shown);
  }

  get #shown() {
    return this.#stage.querySelector(".stage").dataset.screen;
  }

  // The PIN that is asked for may be another driver's. What was typed stays.
  #tellLater({ other_card }) {
    const note = this.#stage.querySelector("[data-later]");
    if (other_card !== "came_later" || !note.hidden) return;
    note.hidden = false;
    announce(note.textContent);
  }

  #wait(found) {
    const values = { code: found.code, spelled: [...found.code].join(" "), seconds: found.expires_in_s };
    this.#show(this.#leads.cards[found.other_card] ?? "wait", values);
    this.#countdown = new Countdown(this.#stage.querySelector("[data-ring]"), {
      leftS: found.expires_in_s,
      windowS: Number(this.#main.dataset.window),
      values,
      // The server says that time is up; should its word be lost on the way, it is asked.
      ended: () => setTimeout(() => this.#waits && this.#look().catch(() => undefined), 1500),
    });
    stayAwake(() => this.#waits);
  }

  async #cancel() {
    const pairing = this.#pairing;
    for (const button of this.#stage.querySelectorAll("[data-do]")) button.disabled = true;
    await this.#patiently(() => call(`${PAIRINGS}/${pairing}`, "DELETE"));
    // Perhaps a card was faster: what the server says counts.
    await this.#patiently(() => this.#look().then(() => ({ ok: true })));
  }

  async #complete(pin) {
    if (this.#completing && pin === undefined) return;
    this.#completing = true;
    const pairing = this.#pairing;
    const body = {};
    if (pin !== undefined) body.pin = pin;
    const client = JSON.parse(this.#main.dataset.client);
    if (client.client_id) body.client = client;
    this.#show("working");
    this.#stream?.stop();
    const { ok, answer } = await this.#patiently(() => call(`${PAIRINGS}/${pairing}/login`, "POST", body));
    if (!ok) {
      this.#showProblem(answer);
      // Another card may still be held there, or the scan may end, while the PIN is typed in.
      if (this.#asks) this.#listen();
      return;
    }
    this.#forget();
    sessionStorage.removeItem(`key:${this.#charger}`);
    this.#show("done");
    setTimeout(() => location.replace(answer.next), READ_MS);
  }
}
