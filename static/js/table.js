/** The table of answers: a row group for each picture, a row for each of its faces. */

import { showProblem } from "./problem.js";
import { doubt, percent } from "./score.js";
import { labelled, t } from "./texts.js";
import { thumbnail } from "./thumbnail.js";

const ORDER = new Intl.Collator("en", { numeric: true });
const KEYS = {
  file: ({ name }) => name,
  label: ({ result }) => result && labelled(result.label),
  score: ({ result }) => result?.score,
};

export class Table {
  #table;
  #groups = new Map(); // of each entry, in the order in which they came
  #by = null;
  #direction = 1;

  /** `table` has a head whose cells to sort by have `data-by` and a button. */
  constructor(table) {
    this.#table = table;
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
    const picture = make("td", "picture", thumbnail(entry.file));
    const file = make("th", "file");
    file.scope = "rowgroup";
    const group = make("tbody", "", make("tr", "", picture, file));
    this.#groups.set(entry, group);
    this.#table.append(group);
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
  const cell = make("td", "label", make("b", "", labelled(label)));
  if (unsure) cell.append(make("span", "soft", unsure));
  return [cell, make("td", unsure ? "score-of is-unsure" : "score-of", bar)];
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
