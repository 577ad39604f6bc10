/** Shows what the network answered. */

import { percent } from "./score.js";

export class Answer {
  #root;
  #fills;
  #scores;

  /** `root` holds the elements named by their `data-part`. */
  constructor(root) {
    this.#root = root;
    this.#fills = [...root.querySelectorAll("[data-part=fill]")];
    this.#scores = [...root.querySelectorAll("[data-part=bar-score]")];
  }

  /** Marks whether what is shown is about to change. */
  set busy(busy) {
    this.#root.ariaBusy = String(busy);
  }

  /** Shows one result of /api/predict. */
  show({ label, score, predictions, seen }) {
    this.#part("label").textContent = label;
    this.#part("score").textContent = percent(score);
    const image = this.#part("seen");
    image.src = seen;
    image.hidden = false;
    for (const each of predictions) this.#bar(each.label, each.score, each.label === label);
    this.#root.dataset.state = "answer";
  }

  /** Back to how the page began. */
  reset() {
    this.#part("label").textContent = "";
    this.#part("score").textContent = "";
    const image = this.#part("seen");
    image.hidden = true;
    image.removeAttribute("src");
    for (const digit of this.#fills.keys()) this.#bar(digit, null, false);
    this.#root.dataset.state = "empty";
  }

  #part(name) {
    return this.#root.querySelector(`[data-part=${name}]`);
  }

  #bar(digit, score, best) {
    this.#fills[digit].style.transform = `scaleX(${score ?? 0})`;
    this.#scores[digit].textContent = score === null ? "–" : percent(score);
    this.#fills[digit].closest("tr").classList.toggle("is-best", best);
  }
}
