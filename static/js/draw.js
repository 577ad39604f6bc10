/** The page for drawing a digit: wires the pad, its buttons and keys to the answer. */

import { Answer } from "./answer.js";
import { KeyboardPen } from "./keyboard.js";
import { Pad } from "./pad.js";
import { lightened } from "./photo.js";
import { showProblem } from "./problem.js";
import { Reader } from "./reader.js";
import { percent } from "./score.js";
import { Sheet } from "./sheet.js";
import { t } from "./texts.js";
import { saveAs } from "./transfer.js";

const SETTLED = 700; // ms without a change after which an answer is read out

const element = (id) => document.getElementById(id);
const canvas = element("pad");
const error = element("error");

const pad = new Pad(canvas);
const pen = new KeyboardPen(pad, canvas, element("pen"), say);
const answer = new Answer(element("answer"));
const reader = new Reader(canvas.dataset.predictUrl, hear);
const why = element("why");
const sheet = new Sheet(element("sheet"), canvas.parentElement, element("picture-input"), (problem) =>
  showProblem(error, problem),
);
let settling = 0;
let picture = null; // gives what is on the pad

pad.addEventListener("change", () => {
  clearTimeout(settling);
  if (!pad.empty) sheet.clear();
  showWhetherEmpty();
  if (pad.empty) {
    reader.stop();
    hear({});
  } else {
    read(() => pad.picture());
  }
});

sheet.addEventListener("picture", ({ detail: file }) => {
  pen.lift();
  pad.clear();
  showWhetherEmpty();
  read(() => lightened(file));
});

why.addEventListener("change", () => {
  const url = new URL(canvas.dataset.predictUrl, location);
  if (why.checked) url.searchParams.set("explain", "true");
  reader.url = url;
  if (!pad.empty || !sheet.empty) read(picture);
});

element("undo").addEventListener("click", undo);
element("clear").addEventListener("click", clear);
element("save").addEventListener("click", save);

document.addEventListener("keydown", (event) => {
  const control = (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey;
  if (control && event.key.toLowerCase() === "z") {
    event.preventDefault();
    undo();
  }
});

canvas.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" && event.key !== "Delete") return;
  event.preventDefault();
  clear();
});

function read(from) {
  picture = from;
  answer.busy = true;
  reader.read(picture);
}

function undo() {
  pen.lift();
  if (pad.undo()) say(pad.empty ? t("js.draw.undone_all") : t("js.draw.undone"));
}

function clear() {
  pen.lift();
  if (sheet.clear()) {
    reader.stop();
    hear({});
  }
  showWhetherEmpty();
  if (pad.clear()) say(t("js.draw.cleared"));
}

function showWhetherEmpty() {
  canvas.parentElement.classList.toggle("is-empty", pad.empty && sheet.empty);
  element("save").disabled = pad.empty;
}

/** Gives the drawing as a file. */
function save() {
  try {
    saveAs(pad.picture(), t("js.draw.file"));
  } catch (problem) {
    showProblem(error, problem);
  }
}

/** Shows what the reader found. */
function hear({ result, blank, error: problem }) {
  answer.busy = reader.busy;
  // A first dot may hold nothing to read; an opened picture should.
  showProblem(error, problem ?? (sheet.empty ? null : blank));
  if (!result) {
    answer.reset();
    return;
  }
  answer.show(result);
  clearTimeout(settling);
  settling = setTimeout(() => say(`${result.label}, ${percent(result.score)}`), SETTLED);
}

/** Has a screen reader say `text`. */
function say(text) {
  element("live").textContent = text;
}
