/** Asks the server about many pictures: in small groups, two requests at a time. */

import { NoAnswer, post } from "./post.js";
import { failure, Problem, problemOf } from "./problem.js";
import { noted } from "./shown.js";
import { number, t } from "./texts.js";

const AT_ONCE = 2; // requests under way; a worker of the server answers one at a time
const GROUP = 8; // pictures of a request: more are hardly faster, and answers come less steadily
const GROUP_BYTES = 2 * 1024 * 1024; // of a request with several pictures
const FRAME = 1024; // bytes of a form around a picture at most
const PATIENCE = 120_000; // ms that an answer may take, the sending over a slow line included
const PAUSE = 1000; // ms after which a request that was lost is sent once more
const WAIT = 5; // seconds to wait where the server asks to and does not say how long
const REFUSALS = [401, 403, 404]; // statuses that the next picture would have too

/**
 * `limits` are the server's, for one request: {images, bytes}. `tell` hears
 * answer(entry, {result} or {error}), wait(seconds), halt(error) and end(); an error is a Problem.
 * An entry has a `file` and its `name`.
 */
export class Queue {
  #limits;
  #tell;
  #url = "";
  #waiting = [];
  #alone = new WeakSet(); // entries that share no request
  #under = new Set(); // the groups under way
  #flight = null; // an AbortController while running
  #notBefore = 0;

  constructor(limits, tell) {
    this.#limits = limits;
    this.#tell = tell;
  }

  get running() {
    return this.#flight !== null;
  }

  add(entries) {
    this.#waiting.push(...entries);
  }

  /** Asks `url` about what waits; what is added later goes with it at the next `start`. */
  start(url) {
    this.#url = url;
    this.#flight ??= new AbortController();
    this.#fill();
  }

  /** Takes back what is under way; `start` asks about it again. */
  stop() {
    this.#flight?.abort();
    this.#flight = null;
    this.#waiting.unshift(...[...this.#under].flat());
    this.#under.clear();
  }

  /** Stops and forgets all. */
  clear() {
    this.stop();
    this.#waiting = [];
    this.#alone = new WeakSet();
  }

  #fill() {
    while (this.#under.size < AT_ONCE && this.#waiting.length) this.#send(this.#take());
    if (this.#under.size) return;
    this.#flight = null;
    this.#tell.end();
  }

  #take() {
    const most = Math.min(GROUP, this.#limits.images);
    let room = Math.min(GROUP_BYTES, this.#limits.bytes - GROUP * FRAME);
    const fits = (entry) => !this.#alone.has(entry) && (room -= entry.file.size) >= 0;
    let count = 0;
    while (count < Math.min(most, this.#waiting.length) && fits(this.#waiting[count])) count += 1;
    return this.#waiting.splice(0, count || 1);
  }

  async #send(group) {
    const { signal } = this.#flight;
    this.#under.add(group);
    try {
      await this.#ask(group, signal);
    } catch (cause) {
      if (signal.aborted) return;
      if (!(cause instanceof Problem)) throw cause;
      this.#under.delete(group);
      this.#separate(group);
      this.#waiting.push(...group); // behind the others, which may be luckier
      this.stop();
      this.#tell.halt(cause);
      return;
    }
    if (signal.aborted) return;
    this.#under.delete(group);
    this.#fill();
  }

  /** Has each of `entries` sent in a request of its own. */
  #separate(entries) {
    for (const entry of entries) this.#alone.add(entry);
  }

  /** Asks until there are answers; throws the Problem for which no further picture is asked about. */
  async #ask(group, signal) {
    const [{ file }] = group;
    if (file.size + FRAME > this.#limits.bytes) {
      this.#tell.answer(group[0], { error: tooLarge(file.size, this.#limits.bytes) });
      return;
    }
    let again = [];
    for (let losses = 0; ; ) {
      await this.#turn(signal);
      const { results, problem, wait, refusal, loss } = await request(this.#url, group, signal);
      if (wait) {
        this.#notBefore = Date.now() + wait * 1000;
        continue;
      }
      if (refusal) throw refusal;
      if (loss) {
        const readable = await Promise.all(group.map(isReadable));
        signal.throwIfAborted();
        if (readable.every(Boolean)) {
          losses += 1;
          if (losses > 1) throw loss;
          await pause(PAUSE, signal);
          continue;
        }
        again = group.filter((_, index) => readable[index]);
        for (const entry of group.filter((_, index) => !readable[index])) {
          this.#tell.answer(entry, { error: new Problem(t("js.queue.unreadable")) });
        }
      } else if (results) {
        again = this.#hand(group, results);
      } else if (group.length > 1) {
        again = group; // none is answered, and the problem told is that of the first
      } else {
        this.#tell.answer(group[0], { error: problem });
      }
      this.#separate(again);
      this.#waiting.unshift(...again);
      return;
    }
  }

  /** Tells the answers of `group`; gives the entries that did not fit into one request's work. */
  #hand(group, results) {
    const again = [];
    for (const [index, result] of results.entries()) {
      const { error } = result;
      if (error?.status === 413 && group.length > 1) again.push(group[index]);
      else this.#tell.answer(group[index], error ? { error: problemOf(error) } : { result });
    }
    return again;
  }

  /** Waits as long as the server has asked to. */
  async #turn(signal) {
    for (let left; (left = this.#notBefore - Date.now()) > 0; ) {
      this.#tell.wait(Math.ceil(left / 1000));
      await pause(left, signal);
    }
  }
}

/** One request; gives one of {results}, {problem}, {wait}, {refusal}, {loss}. */
async function request(url, group, signal) {
  const form = new FormData();
  for (const { file } of group) form.append("file", file);
  let response, body;
  try {
    response = await post(url, form, {}, { signal, patience: PATIENCE });
    body = await response.json().catch((cause) => {
      if (cause.name !== "SyntaxError") throw cause;
      return null;
    });
  } catch (cause) {
    signal.throwIfAborted();
    const loss = failure(cause, t("js.queue.slow"), t("js.queue.unreachable"));
    return cause instanceof NoAnswer ? { loss } : { refusal: loss };
  }
  signal.throwIfAborted();
  const { status } = response;
  if (response.ok && body) {
    return { results: noted(body, response, group.map(({ file }) => file)) };
  }
  const seconds = Number(response.headers.get("Retry-After"));
  if (status === 429 || (status === 503 && seconds)) return { wait: seconds || WAIT };
  const problem = problemOf(body, t("js.queue.failed", { status }));
  if (REFUSALS.includes(status)) return { refusal: problem };
  return body?.detail || (status >= 400 && status < 500) ? { problem } : { loss: problem };
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

function isReadable({ file }) {
  return file.slice(0, 1).arrayBuffer().then(Boolean, () => false);
}

function tooLarge(size, most) {
  const mebibytes = (bytes) => `${number(bytes / 2 ** 20, 1)} MiB`;
  return new Problem(t("js.queue.too_large", { size: mebibytes(size), most: mebibytes(most) }));
}
