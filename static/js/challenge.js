/** A challenge: a digit to draw that the network takes for another. */

import { t } from "./texts.js";

/** What is drawn, and what it is to be read as: digits that look alike enough. */
const PAIRS = ["17", "23", "27", "35", "38", "46", "49", "56", "58", "69", "71", "79", "80", "83", "94", "97", "06", "53"];

const element = (id) => document.getElementById(id);

export class Challenge {
  #root;
  #hit = element("hit");
  #pair = null;
  #score = 0;
  #changed;

  /** `root` is a <details>: while it is open, the challenge is on. `changed(task)` hears what is asked. */
  constructor(root, changed, clear) {
    this.#root = root;
    this.#changed = changed;
    root.addEventListener("toggle", () => (root.open ? this.#ask() : this.#end()));
    element("another").addEventListener("click", () => this.#ask());
    element("fooled").addEventListener("click", () => {
      this.#score += 1;
      this.#ask();
      clear();
    });
    element("not-fooled").addEventListener("click", () => {
      this.#hit.hidden = true;
      clear();
    });
  }

  /** The drawing is about to have another answer. */
  wait() {
    this.#hit.hidden = true;
  }

  /** Hears the settled answer to what is drawn; gives what is to be said, or "". */
  hear({ label, verdict }) {
    if (!this.#pair || verdict === "none" || label !== this.#pair[1]) return "";
    const [from, to] = this.#pair;
    const told = t("js.challenge.hit", { from, to });
    element("hit-text").textContent = told;
    this.#hit.hidden = false;
    return told;
  }

  #ask() {
    const others = PAIRS.filter((pair) => pair !== this.#pair);
    this.#pair = others[Math.floor(Math.random() * others.length)];
    const [from, to] = this.#pair;
    const task = t("js.challenge.task", { from, to });
    element("task").textContent = task;
    element("fooled-count").textContent = t("js.challenge.score", { count: this.#score });
    this.#hit.hidden = true;
    this.#changed(task);
  }

  #end() {
    this.#pair = null;
    this.#hit.hidden = true;
    this.#changed("");
  }
}
