/** The table of answers: a row group for each picture, a row for each of its faces. */

import { showProblem } from "./problem.js";
import { doubt, percent } from "./score.js";
import { labelled, t } from "./texts.js";
import { thumbnail } from "./thumbnail.js";

const FEW = 4; // faces of a photo that have a row each; others are folded

const ORDER = new Intl.Collator("en", { numeric: true });
const KEYS = {
  file: ({ name }) => name,
  label: ({ result }) => result && labelled(result.label),
  score: ({ result }) => result?.score,
};

export class Table {
  #table;
  #open;
  #unfolded = new WeakSet(); // entries of whose faces all are shown
  #groups = new Map(); // of each entry, in the order in which they came
  #by = null;
  #direction = 1;

  /**
   * `table` has a head whose cells to sort by have `data-by` and a button. `open(entry)` hears whose
   * picture is to be shown.
   */
  constructor(table, open) {
    this.#table = table;
    this.#open = open;
    for (const head of table.querySelectorAll("[data-by]")) {
      head.querySelector("button").addEventListener("click", () => this.#sortBy(head.dataset.by));
    }
  }

  /** The entries in the order that is seen. */
  get entries() {
    const entries = [...this.#groups.keys()];
    const key = KEYS[this.#by];
    if (!key) return entries;
    return entries.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      // Those without an answer stand at the end, whichever way is sorted.
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return this.#direction * (typeof x === "number" ? x - y : ORDER.compare(x, y));
    });
  }

  clear() {
    for (const group of this.#groups.values()) group.remove();
    this.#groups.clear();
  }

  /** Shows `entry` as it is now: {file, name} with a result, an error or neither. */
  show(entry) {
    if (!this.#groups.has(entry)) this.#add(entry);
    const { result, error } = entry;
    const [picture, file] = this.#groups.get(entry).rows[0].cells;
    const lines = error
      ? [[problemCell(error)]]
      : result
        ? (result.faces ?? [result]).map((answer) => line(answer, Boolean(result.faces)))
        : [[spanning("soft", t("js.table.waiting"))]];
    const rows = lines.map((cells) => make("tr", "", ...cells));
    const folded = rows.length > FEW && !this.#unfolded.has(entry) ? rows.splice(FEW - 1) : [];
    if (folded.length) rows.push(make("tr", "", spanning("folded", this.#unfolder(entry, folded.length))));
    rows[0].prepend(picture, file);
    picture.rowSpan = file.rowSpan = rows.length;
    const count = result?.faces?.length;
    const faces = count ? [make("span", "soft", t("js.table.faces", { count }))] : [];
    file.replaceChildren(...breakable(entry.name), ...faces);
    this.#groups.get(entry).replaceChildren(...rows);
  }

  /** Puts the rows into the order that is asked for. */
  order() {
    const groups = this.entries.map((entry) => this.#groups.get(entry));
    const shown = this.#table.tBodies;
    if (groups.some((group, index) => shown[index] !== group)) this.#table.append(...groups);
  }

  #add(entry) {
    const button = make("button", "", thumbnail(entry.file));
    button.type = "button";
    button.ariaLabel = t("js.table.open", { name: entry.name });
    button.addEventListener("click", () => this.#open(entry));
    const picture = make("td", "picture", button);
    const file = make("th", "file");
    file.scope = "rowgroup";
    const group = make("tbody", "", make("tr", "", picture, file));
    this.#groups.set(entry, group);
    this.#table.append(group);
  }

  /** A button that shows the `count` faces that are folded. */
  #unfolder(entry, count) {
    const button = make("button", "", t("js.table.more", { count }));
    button.type = "button";
    button.addEventListener("click", () => {
      this.#unfolded.add(entry);
      this.show(entry);
      this.#groups.get(entry).rows[0].querySelector("button").focus();
    });
    return button;
  }

  #sortBy(by) {
    this.#direction = this.#by === by ? -this.#direction : 1;
    this.#by = by;
    for (const head of this.#table.querySelectorAll("[data-by]")) {
      if (head.dataset.by !== by) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", this.#direction > 0 ? "ascending" : "descending");
    }
    this.order();
  }
}

function line(answer, isFace) {
  const { label, score } = answer;
  const unsure = doubt(answer, isFace);
  const fill = make("span", "fill");
  fill.style.transform = `scaleX(${score})`;
  const bar = make("div", "bar", make("span", "track", fill), make("span", "percent", percent(score)));
  const cell = make("td", "label", ...crop(answer), make("b", "", labelled(label)));
  if (unsure) cell.append(make("span", "soft", unsure));
  return [cell, make("td", unsure ? "score-of is-unsure" : "score-of", bar)];
}

/** What the network saw, beside its label. */
function crop({ seen }) {
  if (!seen) return [];
  const image = make("img", "crop");
  image.src = seen;
  image.alt = "";
  return [image];
}

/** `path` with places at which a narrow column may break it. */
function breakable(path) {
  return path.split(/(?<=[/_-])|(?=\.)/).flatMap((part) => [part, make("wbr")]);
}

function problemCell(problem) {
  const cell = spanning("problem");
  showProblem(cell, problem);
  return cell;
}

function spanning(name, ...children) {
  const cell = make("td", name, ...children);
  cell.colSpan = 2;
  return cell;
}

function make(tag, name, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}
