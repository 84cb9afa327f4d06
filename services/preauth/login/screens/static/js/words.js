// The sentences come from the server; only numbers and codes are filled in here.
const spoken = JSON.parse(document.body.dataset.spoken);
const plural = new Intl.PluralRules(document.documentElement.lang);
const raw = new WeakMap();

export const put = (text, values) => text.replace(/\{([a-z_]+)\}/g, (place, name) => values[name] ?? place);

export function say(name, values = {}) {
  return put(spoken[name] ?? "", values);
}

export function amount(unit, n) {
  return put(spoken[`${unit}_${plural.select(n)}`] ?? spoken[`${unit}_other`], { n });
}

// 45 seconds, 3 minutes
export function span(seconds) {
  return seconds < 60 ? amount("seconds", seconds) : amount("minutes", Math.ceil(seconds / 60));
}

// Fills what stands in braces anywhere below an element; may be repeated with other values.
export function fill(element, values) {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!raw.has(node) && !node.data.includes("{")) continue;
    if (!raw.has(node)) raw.set(node, node.data);
    const text = put(raw.get(node), values);
    if (text !== node.data) node.data = text;
  }
}
