// The list of chargers stays fresh by itself, and a screen that was switched off notices.
import { Backoff } from "./backoff.js";
import { Lost } from "./lost.js";

const EVERY_MS = 20_000;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export async function watchKiosk(main) {
  main.addEventListener("click", (event) => {
    const link = event.target.closest?.("[data-start]");
    if (link) sessionStorage.setItem("start", link.dataset.start);
  });
  const lost = new Lost(main);
  const backoff = new Backoff();
  for (;;) {
    await pause(EVERY_MS);
    while (!(await fresh(main))) await lost.wait(backoff.next(), { shown: backoff.tries > 1 });
    backoff.reset();
    lost.over();
  }
}

async function fresh(main) {
  let found;
  try {
    const response = await fetch(location.pathname, { cache: "no-store", credentials: "same-origin" });
    if (response.status >= 500) return false;
    found = new DOMParser().parseFromString(await response.text(), "text/html");
  } catch {
    return false;
  }
  const list = found.querySelector("[data-fresh]");
  if (!list) location.reload();
  else if (list.innerHTML !== main.querySelector("[data-fresh]").innerHTML) replace(main, list);
  return true;
}

// What has the focus keeps it.
function replace(main, list) {
  const href = document.activeElement?.getAttribute("href");
  main.querySelector("[data-fresh]").replaceWith(document.adoptNode(list));
  for (const link of main.querySelectorAll("[data-fresh] a")) if (link.getAttribute("href") === href) link.focus();
}
