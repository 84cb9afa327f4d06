import { say } from "./say.js";

const SHOWN_MS = 1500;

// navigator.clipboard exists only over HTTPS and on localhost; a console on a plain address in the house
// still has to copy, hence the old way.
async function put(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "visually-hidden";
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  if (!done) throw new Error("the browser refused");
}

async function copy(button) {
  const text = button.dataset.copy;
  try {
    await put(text);
  } catch {
    say("The browser does not allow copying here. Select the text and copy it by hand.");
    return;
  }
  button.dataset.copied = "";
  button.title = "Copied";
  say(text.length > 60 ? "Copied" : `Copied ${text}`);
  setTimeout(() => {
    delete button.dataset.copied;
    button.title = "Copy";
  }, SHOWN_MS);
}

export function startCopying() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (button) copy(button);
  });
}
