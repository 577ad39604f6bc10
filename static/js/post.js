/** Posts to the API with the key of this tab, which is asked for where the server wants one. */

import { t } from "./texts.js";

const NAME = "glimpse-key";
const form = document.querySelector("#key");
const why = form?.querySelector("[role=alert]");
let key = remembered();
let waiting = []; // what is called when a key has been given
let before = null; // what had the focus before the form took it

/** Whether there is a key to send. */
export const hasKey = () => Boolean(key);

/**
 * The response to `body`, posted to `url`. Throws as fetch does: an AbortError where `signal` ends
 * it, a TimeoutError where the answer takes more than `patience` ms.
 */
export async function postOnce(url, body, headers, { signal, patience = 30_000 } = {}) {
  const limit = AbortSignal.timeout(patience);
  const response = await fetch(url, {
    method: "POST",
    headers: { Accept: "application/json", ...(key && { Authorization: `Bearer ${key}` }), ...headers },
    body,
    signal: signal ? AbortSignal.any([signal, limit]) : limit,
  });
  if (form) response.status === 401 ? ask() : rest();
  return response;
}

/** As `postOnce`, but an answer that asks for a key is waited out, and `body` sent again with one. */
export async function post(url, body, headers, options = {}) {
  for (;;) {
    const sent = key;
    const response = await postOnce(url, body, headers, options);
    if (response.status !== 401 || !form) return response;
    if (sent === key) await given(options.signal); // else one has come meanwhile
  }
}

/** Shows the form for a key, and why. */
function ask() {
  why.textContent = key
    ? t("js.post.wrong")
    : t("js.post.asked");
  form.hidden = false;
}

/** Puts the form away. */
function rest() {
  const focused = form.contains(document.activeElement);
  form.hidden = !("stays" in form.dataset);
  why.textContent = "";
  if (focused && form.hidden) before?.focus();
}

/** Resolves when a key has been given; rejects when `signal` ends the wait. */
function given(signal) {
  return new Promise((resolve, reject) => {
    waiting.push(resolve);
    signal?.addEventListener("abort", () => reject(signal.reason));
  });
}

// Where a browser keeps nothing, the key lasts as long as the page.
function remembered() {
  try {
    return sessionStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}

function remember() {
  try {
    sessionStorage.setItem(NAME, key);
  } catch {
    // It is forgotten with the page.
  }
}

if (form) {
  const input = form.querySelector("input");
  input.value = key;
  form.hidden = !("stays" in form.dataset);
  form.addEventListener("focusin", ({ relatedTarget }) => {
    if (!form.contains(relatedTarget)) before = relatedTarget;
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    key = input.value.trim();
    remember();
    const calls = waiting;
    waiting = [];
    why.textContent = calls.length ? "" : key ? t("js.post.kept") : t("js.post.none");
    for (const call of calls) call();
  });
}
