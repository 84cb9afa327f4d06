// Dialogs open by the command attributes. A browser that does not know them yet gets the same from here;
// either way the element that opened one has the focus again afterwards.
function act(button) {
  const dialog = document.getElementById(button.getAttribute("commandfor"));
  if (!(dialog instanceof HTMLDialogElement)) return;
  const command = button.getAttribute("command");
  if (command === "show-modal" && !dialog.open) dialog.showModal();
  if (command === "close" && dialog.open) dialog.close();
}

export function startDialogs() {
  if (!("commandForElement" in HTMLButtonElement.prototype)) {
    document.addEventListener("click", (event) => {
      const button = event.target.closest?.("button[commandfor]");
      if (button) act(button);
    });
  }
  // A click beside the dialog closes it: the backdrop belongs to the dialog element itself.
  document.addEventListener("click", (event) => {
    if (event.target instanceof HTMLDialogElement && event.target.open) {
      const box = event.target.getBoundingClientRect();
      const inside = event.clientX >= box.left && event.clientX <= box.right
        && event.clientY >= box.top && event.clientY <= box.bottom;
      if (!inside) event.target.close();
    }
  });
}
