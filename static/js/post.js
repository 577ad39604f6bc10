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

/** No answer came: the line was silent for too long, or (`slow` false) is down. */
export class NoAnswer extends Error {
  constructor(slow) {
    super(slow ? "no answer in time" : "no connection");
    this.slow = slow;
  }
}

/**
 * The response to `body`, posted to `url` or sent by another `method`, once it is whole. Throws an
 * AbortError where `signal` ends it, a NoAnswer where there is no connection or it takes more than
 * `patience` ms. Where `sent` is given, it hears which share of the body is sent, and `patience`
 * counts silence alone.
 */
export async function postOnce(url, body, headers, { signal, patience = 30_000, sent, method = "POST" } = {}) {
  const own = { Accept: "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
  const init = { method, body, headers: { ...own, ...headers } };
  const response = sent
    ? await upload(url, init, { signal, patience, sent })
    : await fetchWhole(url, init, { signal, patience });
  if (form) response.status === 401 ? ask() : rest();
  return response;
}

/** As fetch, but the response is whole; throws as `postOnce` does. */
export async function fetchWhole(url, init, { signal, patience }) {
  // AbortSignal.any and its timeout are missing in iOS before 17.4.
  signal?.throwIfAborted();
  const flight = new AbortController();
  const stop = () => flight.abort(signal.reason);
  const timer = setTimeout(() => flight.abort(new NoAnswer(true)), patience);
  signal?.addEventListener("abort", stop);
  try {
    const response = await fetch(url, { ...init, signal: flight.signal });
    const { status, statusText } = response;
    const bytes = await response.arrayBuffer();
    // An answer with status 204 may not have even an empty body.
    return new Response(bytes.byteLength ? bytes : null, { status, statusText, headers: response.headers });
  } catch {
    flight.signal.throwIfAborted();
    throw new NoAnswer(false);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

/** Not by fetch, which tells nothing of what is sent. */
function upload(url, { body, headers }, { signal, patience, sent }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let timer = 0;
    const end = (settle, value) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
      settle(value);
    };
    const stop = () => {
      end(reject, signal.reason);
      request.abort();
    };
    const wait = () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        end(reject, new NoAnswer(true));
        request.abort();
      }, patience);
    };
    if (signal?.aborted) return reject(signal.reason);
    request.open("POST", url);
    request.responseType = "blob";
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => {
      wait();
      sent(total ? loaded / total : 1);
    };
    request.onprogress = wait;
    request.onerror = () => end(reject, new NoAnswer(false));
    request.onload = () => end(resolve, responseOf(request));
    signal?.addEventListener("abort", stop);
    wait();
    request.send(body);
  });
}

function responseOf(request) {
  const { response, status, statusText } = request;
  const lines = request.getAllResponseHeaders().trim().split("\r\n");
  const headers = lines.map((line) => line.split(/:\s*(.*)/, 2));
  return new Response(response, { status, statusText, headers });
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
