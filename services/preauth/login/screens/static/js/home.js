// A kiosk goes back to its chargers by itself when nothing follows; whoever touches it has the time again.
import { fill } from "./words.js";

const AFTER_S = 20;

export function returnHome(root) {
  const words = root.querySelector("[data-return]");
  const { home } = document.body.dataset;
  if (!words || !home) return () => undefined;
  let until = 0;
  const again = () => {
    until = performance.now() + AFTER_S * 1000;
  };
  const tick = () => {
    const seconds = Math.max(0, Math.ceil((until - performance.now()) / 1000));
    fill(words, { seconds });
    if (seconds > 0) return;
    stop();
    location.replace(home);
  };
  const ticking = setInterval(tick, 500);
  const stop = () => {
    clearInterval(ticking);
    for (const kind of ["pointerdown", "keydown"]) removeEventListener(kind, again);
  };
  for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, again);
  again();
  tick();
  return stop;
}
