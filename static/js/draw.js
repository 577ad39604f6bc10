/** The page for drawing a digit: wires the pad, its buttons and keys to the answer. */

import { Answer } from "./answer.js";
import { KeyboardPen } from "./keyboard.js";
import { Pad } from "./pad.js";
import { Reader } from "./reader.js";
import { percent } from "./score.js";

const SETTLED = 700; // ms without a change after which an answer is read out

const element = (id) => document.getElementById(id);
const canvas = element("pad");
const error = element("error");

const pad = new Pad(canvas);
const pen = new KeyboardPen(pad, canvas, element("pen"), say);
const answer = new Answer(element("answer"));
const reader = new Reader(canvas.dataset.predictUrl, hear);
let settling = 0;

pad.addEventListener("change", () => {
  clearTimeout(settling);
  canvas.parentElement.classList.toggle("is-empty", pad.empty);
  if (pad.empty) {
    reader.stop();
    hear({ blank: true });
  } else {
    answer.busy = true;
    reader.read(() => pad.picture());
  }
});

element("undo").addEventListener("click", undo);
element("clear").addEventListener("click", clear);

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

function undo() {
  pen.lift();
  if (pad.undo()) say(pad.empty ? "Undone. The pad is empty." : "Undone");
}

function clear() {
  pen.lift();
  if (pad.clear()) say("The pad is empty.");
}

/** Shows what the reader found. */
function hear({ result, error: problem }) {
  answer.busy = reader.busy;
  error.textContent = problem ?? "";
  error.hidden = !problem;
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
