// Times arrive in UTC and are shown in the reader's zone. The rules are those of format.py.
const DAY_MS = 86_400_000;
const TICK_MS = 1_000;

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const exact = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
  timeZoneName: "longOffset",
});
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const dayOfYear = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

const midnight = (at) => new Date(at.getFullYear(), at.getMonth(), at.getDate()).getTime();

// today 09:12, yesterday 17:20, 28 Apr 08:01, 3 Dec 2025 08:01
export function moment(at, now) {
  const days = Math.round((midnight(now) - midnight(at)) / DAY_MS);
  if (days === 0) return `today ${clock.format(at)}`;
  if (days === 1) return `yesterday ${clock.format(at)}`;
  if (days === -1) return `tomorrow ${clock.format(at)}`;
  const date = at.getFullYear() === now.getFullYear() ? day : dayOfYear;
  return `${date.format(at)} ${clock.format(at)}`;
}

// 4 s, 12 min, 3 h, 5 d
export function age(at, now) {
  const seconds = Math.max(0, Math.floor((now - at) / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

const WAYS = { moment, age };

export function localise(root, now = new Date()) {
  for (const element of root.querySelectorAll("time[data-time]")) {
    const at = new Date(element.dateTime);
    const shown = WAYS[element.dataset.time](at, now);
    if (element.textContent !== shown) element.textContent = shown;
    if (!("titled" in element.dataset)) {
      element.dataset.titled = "";
      element.title = `${exact.format(at)}\n${element.title}`;
    }
  }
}

export function startTimes() {
  localise(document);
  setInterval(() => {
    if (!document.hidden) localise(document);
  }, TICK_MS);
}
