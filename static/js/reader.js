/** Asks the server what a drawing shows, while it is still being drawn. */

import { post } from "./post.js";
import { failure, problemOf } from "./problem.js";
import { noted } from "./shown.js";
import { t } from "./texts.js";

const PAUSE = 50; // ms from one request to the next at least
const PAUSE_AFTER_FAILURE = 1000; // ms
const PATIENCE = 10_000; // ms that an answer may take

/**
 * At most one request is under way; of the pictures that come up meanwhile only the latest is
 * sent, so that answers arrive in the order of the drawing.
 */
export class Reader {
  #url;
  #tell;
  #wanted = null; // what makes the picture to send next
  #flight = null; // the AbortController of the request under way
  #nextAt = 0;

  /**
   * `tell(outcome)` hears {result}, {blank: Problem} where the picture holds nothing to read, or
   * {error: Problem}, with `wait` ms until the next request.
   */
  constructor(url, tell) {
    this.#url = url;
    this.#tell = tell;
  }

  get busy() {
    return this.#flight !== null;
  }

  /** What is asked from the next picture on. */
  set url(url) {
    this.#url = url;
  }

  /**
   * Reads the picture that `picture()` gives or promises at the time when it can be sent. Where
   * `sent` is given, it hears how much of it is.
   */
  read(picture, sent) {
    this.#wanted = { picture, sent };
    if (!this.busy) this.#send();
  }

  /** Forgets what is under way: no answer will come until the next `read`. */
  stop() {
    this.#wanted = null;
    this.#flight?.abort();
    this.#flight = null;
  }

  async #send() {
    const flight = new AbortController();
    this.#flight = flight;
    await new Promise((resolve) => setTimeout(resolve, this.#nextAt - performance.now()));
    if (flight.signal.aborted) return;
    const wanted = this.#wanted;
    this.#wanted = null;
    const outcome = await this.#ask(wanted, flight);
    if (this.#flight !== flight) return; // what was stopped has not failed
    this.#flight = null;
    if (outcome.error) this.#nextAt = performance.now() + outcome.wait;
    if (this.#wanted) this.#send();
    this.#tell(outcome);
  }

  async #ask(wanted, { signal }) {
    this.#nextAt = performance.now() + PAUSE;
    try {
      const headers = { "Content-Type": "application/octet-stream" };
      const options = { signal, patience: PATIENCE, sent: wanted.sent };
      const picture = await wanted.picture();
      const response = await post(this.#url, picture, headers, options);
      if (response.ok) return { result: noted(await response.json(), response, [picture])[0] };
      const failed = t("js.reader.failed", { status: response.status });
      const problem = problemOf(await response.json().catch(() => null), failed);
      if (response.status === 422) return { blank: problem };
      const seconds = Number(response.headers.get("Retry-After"));
      return { error: problem, wait: seconds * 1000 || PAUSE_AFTER_FAILURE };
    } catch (cause) {
      if (signal.aborted) return {};
      const error = failure(cause, t("js.reader.slow"), t("js.reader.unreachable"));
      return { error, wait: PAUSE_AFTER_FAILURE };
    }
  }
}
