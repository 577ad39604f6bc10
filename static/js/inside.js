/** The page that looks inside a network: its layers, live, while something is drawn. */

import { keep, kept } from "./drawing.js";
import { KeyboardPen } from "./keyboard.js";
import { Layer } from "./layer.js";
import { Pad } from "./pad.js";
import { lightened } from "./photo.js";
import { showProblem } from "./problem.js";
import { Reader } from "./reader.js";
import { percent } from "./score.js";
import { Sheet } from "./sheet.js";
import { labelled, t } from "./texts.js";

const SETTLED = 900; // ms without a change after which the answer is read out

const element = (id) => document.getElementById(id);
const canvas = element("pad");
const error = element("error");
const { url } = element("inside").dataset;
const isDrawn = canvas.hasAttribute("tabindex");

const pad = new Pad(canvas);
const pen = new KeyboardPen(pad, canvas, element("pen"), say);
const reader = new Reader(url, hear);
const sheet = new Sheet(element("sheet"), canvas.parentElement, element("picture-input"), (problem) =>
  showProblem(error, problem),
);
const layers = [...document.querySelectorAll(".layer[data-channels]")].map(
  (root, index) => new Layer(root, `${url}/${index}`, (problem) => showProblem(error, problem)),
);
let settling = 0;

pad.addEventListener("change", () => {
  if (!pad.empty) sheet.clear();
  showWhetherEmpty();
  if (!pad.empty) return reader.read(() => pad.picture());
  reader.stop();
  hear({});
});

sheet.addEventListener("picture", ({ detail: file }) => {
  pen.lift();
  pad.clear();
  showWhetherEmpty();
  reader.read(() => lightened(file));
});

element("undo")?.addEventListener("click", () => {
  pen.lift();
  pad.undo();
});

element("clear")?.addEventListener("click", () => {
  pen.lift();
  if (sheet.clear()) {
    reader.stop();
    hear({});
  }
  showWhetherEmpty();
  pad.clear();
});

document.querySelector("[data-sample]")?.addEventListener("click", async ({ target }) => {
  const response = await fetch(target.dataset.sample);
  sheet.lay(await response.blob());
});

element("large").addEventListener("click", ({ target }) => {
  const isLarge = document.documentElement.classList.toggle("is-large");
  target.ariaPressed = String(isLarge);
  for (const layer of layers) layer.draw();
});

if (isDrawn) {
  addEventListener("pagehide", () => keep(pad.strokes));
  const before = kept();
  if (before) pad.replace(before);
}

function showWhetherEmpty() {
  canvas.parentElement.classList.toggle("is-empty", pad.empty && sheet.empty);
}

async function hear({ result, blank, error: problem }) {
  showProblem(error, problem ?? (sheet.empty ? null : blank));
  element("answer").dataset.state = result ? "answer" : "empty";
  const told = result ? { label: labelled(result.label), score: percent(result.score) } : null;
  element("label").textContent = told ? t("js.inside.answer", told) : "";
  showVotes(result?.predictions ?? []);
  const seen = result ? await loaded(result.seen) : null;
  const sheets = await Promise.all((result?.layers ?? []).map(({ maps }) => loaded(maps)));
  const view = element("seen").getContext("2d");
  view.clearRect(0, 0, view.canvas.width, view.canvas.height);
  if (seen) view.drawImage(seen, 0, 0);
  for (const [index, layer] of layers.entries()) layer.show(sheets[index] ?? null, seen);
  clearTimeout(settling);
  if (told) settling = setTimeout(() => say(t("js.inside.answer", told)), SETTLED);
}

function showVotes(predictions) {
  for (const row of element("votes").rows) {
    const vote = predictions.find(({ label }) => label === row.dataset.label);
    row.querySelector(".fill").style.transform = `scaleX(${vote?.score ?? 0})`;
    row.querySelector(".bar-score").textContent = vote ? percent(vote.score) : "–";
    row.classList.toggle("is-best", vote !== undefined && vote === predictions[0]);
  }
}

async function loaded(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

/** Has a screen reader say `text`. */
function say(text) {
  element("live").textContent = text;
}
