// Counts down to the sign-out where the driver sees it, and leaves nothing on the screen when it comes.
import { say as announce } from "./say.js";
import { wipe } from "./private.js";
import { put } from "./words.js";

const TICK_MS = 500;
const SOON_S = 30;
// The server counts requests, not touches: it is told, but not more often than it matters.
const TELL_MS = 20_000;

export function watchAccount(main) {
  const idleMs = Number(main.dataset.idle) * 1000;
  const panel = main.querySelector("[data-idle-panel]");
  const words = panel.querySelector("[data-idle-words]");
  let since = performance.now() - (idleMs - Number(main.dataset.left) * 1000);
  let warned = false;

  // A reload by hand is one.
  if (location.search) history.replaceState(null, "", main.dataset.stay);

  const stay = async () => {
    const asked = performance.now();
    const response = await fetch(main.dataset.stay, { cache: "no-store", credentials: "same-origin" }).catch(() => null);
    if (response?.ok) {
      since = asked;
      warned = false;
      tick();
    } else if (response?.status === 401) {
      out();
    }
  };
  const out = () => {
    clearInterval(ticking);
    wipe(main);
    // Whether the driver is active in another window only the server knows, and asking it must be no activity.
    location.replace(main.dataset.look);
  };
  const tick = () => {
    const seconds = Math.max(0, Math.ceil((idleMs - (performance.now() - since)) / 1000));
    const soon = seconds <= Math.min(SOON_S, idleMs / 2000);
    const left = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    panel.dataset.state = soon ? "attention" : "neutral";
    words.textContent = put(soon ? words.dataset.idleSoon : words.dataset.idleWords, { left, seconds });
    if (soon && !warned) {
      warned = true;
      announce(words.textContent);
    }
    if (seconds === 0) out();
  };
  const ticking = setInterval(tick, TICK_MS);
  tick();

  panel.querySelector("[data-idle-stay]").addEventListener("click", (event) => {
    event.preventDefault();
    stay();
  });
  for (const kind of ["pointerdown", "keydown"]) {
    addEventListener(kind, () => {
      if (performance.now() - since > TELL_MS) stay();
    });
  }
}
