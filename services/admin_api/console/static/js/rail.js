// Remembers the collapsed rail in a cookie, so that the server draws it right from the start and nothing jumps.
const A_YEAR_S = 31_536_000;

export function startRail() {
  const toggle = document.querySelector("[data-rail-toggle]");
  toggle?.addEventListener("click", () => {
    const root = document.documentElement;
    const collapsed = root.dataset.rail !== "icons";
    if (collapsed) root.dataset.rail = "icons";
    else delete root.dataset.rail;
    toggle.setAttribute("aria-pressed", String(collapsed));
    document.cookie = `rail=${collapsed ? "icons" : "words"}; path=/; max-age=${A_YEAR_S}; samesite=lax`;
  });
}
