// Calls to the server. Three outcomes: an answer, a refusal with its code (RFC 9457), or nobody there.
const PATIENCE_MS = 10_000;

export class Unreachable extends Error {}

export async function call(path, method = "GET", body = undefined) {
  let response;
  try {
    response = await fetch(path, {
      method,
      cache: "no-store",
      credentials: "same-origin",
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    // A gateway before us speaks for a server that is away.
    if ([502, 503, 504].includes(response.status) && !isProblem(response)) throw new Error(String(response.status));
    const answer = response.status === 204 ? {} : await response.json();
    // The server is there, and what it works with is not.
    if (answer.code === "unavailable") throw new Error(answer.code);
    return { ok: response.ok, status: response.status, answer };
  } catch (error) {
    throw new Unreachable(String(error));
  }
}

function isProblem(response) {
  return (response.headers.get("content-type") ?? "").startsWith("application/problem+json");
}
