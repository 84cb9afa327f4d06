// "/" and Ctrl-K (or Cmd-K) go to the search field, Escape goes back to where one was.
const TYPING = "input, textarea, select, [contenteditable]";

export function startSearch() {
  const field = document.querySelector("[data-search]");
  if (!field) return;
  let before = null;
  document.addEventListener("keydown", (event) => {
    const slash = event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey;
    const combination = event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey);
    if (combination || (slash && !event.target.closest?.(TYPING))) {
      if (document.querySelector("dialog[open]")) return;
      event.preventDefault();
      before = document.activeElement;
      field.focus();
      field.select();
    } else if (event.key === "Escape" && event.target === field) {
      before?.focus();
      field.blur();
    }
  });
}
