// Nothing of a driver stays behind: not in the page that the browser keeps for its back button, not on the way out.
export function wipe(main) {
  main.replaceChildren();
}

export function leaveNothing(main) {
  if (main.dataset.page !== "me") {
    // A page that comes back from the browser's memory may show what has long passed.
    addEventListener("pageshow", (event) => {
      if (event.persisted) location.reload();
    });
    return;
  }
  addEventListener("pagehide", () => wipe(main));
  addEventListener("pageshow", (event) => {
    if (event.persisted) {
      wipe(main);
      location.reload();
    }
  });
}
