// Counts the idle time down where the driver can see it, and leaves nothing on the screen when it is over.
const root = document.getElementById("me");
const idle = Number(root.dataset.idle) * 1000;
const left = root.querySelector("[data-left]");
let since = performance.now();

for (const kind of ["pointerdown", "keydown"]) {
  addEventListener(kind, () => {
    // The server counts requests, not touches: tell it, but not more often than it matters.
    if (performance.now() - since > 10000) {
      since = performance.now();
      fetch("/me", { cache: "no-store" }).catch(() => undefined);
    }
  });
}

setInterval(() => {
  const seconds = Math.ceil((idle - (performance.now() - since)) / 1000);
  left.textContent = String(Math.max(0, seconds));
  if (seconds <= 0) location.replace("/me");
}, 500);

for (const time of document.querySelectorAll("time[datetime]")) {
  time.textContent = new Date(time.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

// Coming back with the browser's button must not show what was there before.
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
