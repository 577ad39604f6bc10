/** Shows what the network answered. */

import { doubt, percent } from "./score.js";
import { t } from "./texts.js";

/** What a digit's answer is worth, in words. */
export function surenessOf(result) {
  const { verdict, label, score } = result;
  if (verdict === "none") return t("js.answer.none", { label, score: percent(score) });
  return doubt(result) || t("js.answer.score");
}

export class Answer {
  #root;
  #rows; // of each label
  #selected;

  /** `root` holds the elements named by their `data-part`; `selected(subject)` hears whose bars show. */
  constructor(root, selected) {
    this.#root = root;
    this.#selected = selected;
    const rows = [...root.querySelectorAll("tr[data-label]")];
    this.#rows = new Map(rows.map((row) => [row.dataset.label, row]));
  }

  /** Marks whether what is shown is about to change. */
  set busy(busy) {
    this.#root.ariaBusy = String(busy);
  }

  /** Shows one result of /api/predict: a digit, or a number with its least sure digit selected. */
  show(result) {
    const { label, score, subjects } = result;
    this.#part("label").textContent = label;
    this.#root.style.setProperty("--length", label.length);
    this.#part("score").textContent = percent(score);
    this.#part("sureness").textContent = surenessOf(result);
    this.#root.dataset.verdict = result.verdict;
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
    for (const label of this.#rows.keys()) this.#bar(label, null, false);
    this.#root.dataset.state = "empty";
    delete this.#root.dataset.verdict;
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
    const { label, predictions, seen, seen_at: place, explanation } = subjects[index];
    for (const [place, button] of [...this.#part("number").children].entries()) {
      button.ariaPressed = String(place === index);
    }
    const which = this.#part("which");
    const count = subjects.length;
    const text = t("js.answer.which", { index: index + 1, count, label });
    which.textContent = count > 1 ? text : which.dataset.text;
    const image = this.#part("seen");
    const isExplained = explanation && !place; // else the heat lies on the drawing itself
    image.src = isExplained ? explanation : seen;
    image.alt = isExplained ? t("js.answer.why", { label }) : image.dataset.alt;
    image.hidden = false;
    for (const each of predictions) this.#bar(each.label, each.score, each.label === label);
    this.#selected(subjects[index]);
  }

  #part(name) {
    return this.#root.querySelector(`[data-part=${name}]`);
  }

  #bar(label, score, best) {
    const row = this.#rows.get(label);
    row.querySelector("[data-part=fill]").style.transform = `scaleX(${score ?? 0})`;
    row.querySelector("[data-part=bar-score]").textContent = score === null ? "–" : percent(score);
    row.classList.toggle("is-best", best);
  }
}
