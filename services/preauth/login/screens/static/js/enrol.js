// A code is typed from another screen: what was typed goes out once, however often the button is pressed.
export function watchEnrol(main) {
  const form = main.querySelector("form");
  form.addEventListener("submit", () => {
    for (const button of form.querySelectorAll("button")) button.disabled = true;
  });
}
