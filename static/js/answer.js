/** Shows what the network answered. */

import { doubt, percent } from "./score.js";
import { t } from "./texts.js";

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

  /** Shows one result of /api/predict: a digit, or a number with its least sure digit selected. */
  show({ label, score, predictions, subjects }) {
    this.#part("label").textContent = label;
    this.#root.style.setProperty("--length", label.length);
    this.#part("score").textContent = percent(score);
    this.#part("sureness").textContent = doubt(predictions) || t("js.answer.score");
    const scores = subjects.map((subject) => subject.score);
    this.#list(subjects);
    this.#select(subjects, scores.indexOf(Math.min(...scores)));
    this.#root.dataset.state = "answer";
  }

  /** Back to how the page began. */
  reset() {
    this.#part("label").textContent = "";
    this.#part("score").textContent = "";
    this.#list([]);
    const image = this.#part("seen");
    image.hidden = true;
    image.removeAttribute("src");
    const which = this.#part("which");
    which.textContent = which.dataset.text;
    for (const digit of this.#fills.keys()) this.#bar(digit, null, false);
    this.#root.dataset.state = "empty";
  }

  /** A button for each digit of a number. */
  #list(subjects) {
    const list = this.#part("number");
    list.hidden = subjects.length < 2;
    const buttons = list.hidden ? [] : subjects.map((subject, index) => this.#button(subjects, index));
    // A new answer comes with each stroke: the focus stays where it was.
    const held = [...list.children].indexOf(document.activeElement);
    list.replaceChildren(...buttons);
    buttons[held]?.focus();
  }

  #button(subjects, index) {
    const { label, score, seen } = subjects[index];
    const button = document.createElement("button");
    button.type = "button";
    const image = document.createElement("img");
    image.src = seen;
    image.alt = "";
    const name = document.createElement("b");
    name.textContent = label;
    const share = document.createElement("span");
    share.textContent = percent(score);
    button.append(image, name, share);
    button.addEventListener("click", () => this.#select(subjects, index));
    return button;
  }

  /** Shows the bars of one digit, and what the network saw of it. */
  #select(subjects, index) {
    const { label, predictions, seen, explanation } = subjects[index];
    for (const [place, button] of [...this.#part("number").children].entries()) {
      button.ariaPressed = String(place === index);
    }
    const which = this.#part("which");
    const count = subjects.length;
    const text = t("js.answer.which", { index: index + 1, count, label });
    which.textContent = count > 1 ? text : which.dataset.text;
    const image = this.#part("seen");
    image.src = explanation ?? seen;
    image.alt = explanation ? t("js.answer.why", { label }) : image.dataset.alt;
    image.hidden = false;
    for (const each of predictions) this.#bar(each.label, each.score, each.label === label);
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
