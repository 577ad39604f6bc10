/** Which answers a page shows, for scripts that are there on some servers alone. */

const sources = new WeakMap();

/** The results of `answer`, which `response` of /api/predict held; they came to `pictures`. */
export function noted({ results, model, version }, response, pictures) {
  const id = response.headers.get("X-Request-ID");
  for (const [index, result] of results.entries()) {
    const own = results.length > 1 ? `${id}.${index}` : id;
    sources.set(result, { picture: pictures[index], model, version, id: own });
  }
  return results;
}

/** Whose answer `result` is, to which picture: {picture, model, version, id}. */
export function sourceOf(result) {
  return sources.get(result);
}

/** Tells that `subject` of `result` is shown; with null, that none is. Scripts hear “shown” at #answer. */
export function tellShown(subject, result) {
  const detail = subject && { subject, result };
  document.getElementById("answer").dispatchEvent(new CustomEvent("shown", { detail }));
}
