/** Which answer a page shows, for scripts that are there on some servers alone. */

const sources = new WeakMap();

/** The first result of `answer`, which `response` of /api/predict held; it came to `picture`. */
export function noted({ results: [result], model, version }, response, picture) {
  sources.set(result, { picture, model, version, id: response.headers.get("X-Request-ID") });
  return result;
}

/** Tells that `subject` of `result` is shown; with null, that none is. Scripts hear “shown” at #answer. */
export function tellShown(subject, result) {
  const detail = subject && { subject, result, ...sources.get(result) };
  document.getElementById("answer").dispatchEvent(new CustomEvent("shown", { detail }));
}
