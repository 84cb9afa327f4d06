// The scan's page: start, wait for the card, complete the login. Everything it shows comes from the server's stages;
// a page that was reloaded or lost its connection goes on where it was.
const root = document.getElementById("scan");
const charger = root.dataset.charger;
const client = JSON.parse(root.dataset.client);
const memory = `scan:${charger}`;
const key = takeKey();
const part = (name) => root.querySelector(`[${name}]`);
const button = (name) => root.querySelector(`[data-do="${name}"]`);

let pairing = null;
let stream = null;
let deadline = 0;
let ticking = 0;

// The QR code's secret must not stay in the address bar, nor in the history.
function takeKey() {
  const address = new URL(location.href);
  const found = address.searchParams.get("key") ?? sessionStorage.getItem(`key:${charger}`);
  if (address.searchParams.has("key")) {
    sessionStorage.setItem(`key:${charger}`, found);
    address.searchParams.delete("key");
    history.replaceState(null, "", address);
  }
  return found;
}

function show(stage, detail = "") {
  root.dataset.stage = stage;
  for (const section of root.querySelectorAll("[data-for]")) {
    section.hidden = section.dataset.for !== stage;
    const place = section.querySelector("[data-detail]");
    if (place && !section.hidden) place.textContent = detail;
  }
  const over = ["expired", "cancelled", "void", "refused", "problem"].includes(stage);
  button("start").hidden = stage !== "ready";
  button("again").hidden = !over;
  button("cancel").hidden = stage !== "armed";
  part("data-ring").hidden = stage !== "armed";
  part("data-pin-form").hidden = stage !== "pin";
  if (stage === "pin") document.getElementById("pin").focus();
  if (over) forget();
}

function forget() {
  sessionStorage.removeItem(memory);
  stream?.close();
  stream = null;
  clearInterval(ticking);
}

async function call(path, method, body) {
  const response = await fetch(path, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body ? JSON.stringify(body) : undefined,
  });
  const answer = response.status === 204 ? {} : await response.json();
  return { ok: response.ok, status: response.status, answer };
}

async function start() {
  button("start").disabled = button("again").disabled = true;
  try {
    const body = { charge_box_id: charger };
    if (key) body.key = key;
    const { ok, answer } = await call("/api/pairings", "POST", body);
    if (!ok) return show("problem", answer.detail);
    sessionStorage.setItem(memory, answer.pairing_id);
    follow(answer);
  } catch {
    show("problem", "The page did not reach the server. Check the connection and try again.");
  } finally {
    button("start").disabled = button("again").disabled = false;
  }
}

function follow(found) {
  pairing = found.pairing_id;
  part("data-code").textContent = found.code;
  deadline = performance.now() + found.expires_in_s * 1000;
  show("armed");
  clearInterval(ticking);
  ticking = setInterval(tick, 250);
  tick();
  stream?.close();
  stream = new EventSource(`/api/pairings/${pairing}/events`);
  for (const stage of ["armed", "matched", "intercepted", "void", "cancelled", "expired", "consumed"]) {
    stream.addEventListener(stage, (event) => reached(stage, JSON.parse(event.data)));
  }
  stream.onerror = () => {
    if (root.dataset.stage === "armed") show("lost");
  };
  stream.onopen = () => {
    if (root.dataset.stage === "lost") show("armed");
  };
}

function tick() {
  const left = Math.max(0, deadline - performance.now());
  part("data-seconds").textContent = String(Math.ceil(left / 1000));
  root.querySelector(".left").style.strokeDashoffset = String(100 - (left / 90000) * 100);
}

function reached(stage, found) {
  if (stage === "armed") return show("armed");
  if (stage === "matched") return;
  if (stage === "intercepted") return complete();
  if (stage === "consumed") {
    if (found.result === "login") return complete();
    return found.result === "refused" ? complete() : show("void");
  }
  show(stage);
}

async function complete(pin) {
  if (root.dataset.stage === "done") return;
  show("working");
  stream?.close();
  const body = {};
  if (pin) body.pin = pin;
  if (client.client_id) body.client = client;
  try {
    const { ok, answer } = await call(`/api/pairings/${pairing}/login`, "POST", body);
    if (ok) {
      forget();
      show("done");
      location.replace(answer.next);
    } else if (answer.code === "pin_needed" || answer.code === "pin_wrong") {
      const message = part("data-pin-message");
      message.hidden = answer.code === "pin_needed";
      message.textContent = answer.detail;
      show("pin");
    } else {
      show(answer.code === "login_refused" ? "refused" : "problem", answer.detail);
    }
  } catch {
    setTimeout(() => complete(pin), 1000);
  }
}

async function cancel() {
  await call(`/api/pairings/${pairing}`, "DELETE").catch(() => undefined);
  show("cancelled");
}

button("start").addEventListener("click", start);
button("again").addEventListener("click", start);
button("cancel").addEventListener("click", cancel);
part("data-pin-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = document.getElementById("pin");
  const pin = field.value;
  field.value = "";
  complete(pin);
});

const earlier = sessionStorage.getItem(memory);
if (earlier) {
  call(`/api/pairings/${earlier}`, "GET")
    .then(({ ok, answer }) => (ok ? follow(answer) : forget()))
    .catch(forget);
}
