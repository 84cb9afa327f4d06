// Tells people who do not see the screen what just happened.
export function say(words) {
  const said = document.getElementById("said");
  if (said) said.textContent = words;
}
