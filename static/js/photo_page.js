/** A page for photos: one chosen, dropped, pasted or taken, and what the model says of it. */

import { hasCamera, takePhoto } from "./camera.js";
import { fileOf } from "./encode.js";
import { ask, lightened } from "./photo.js";
import { Problem, showProblem } from "./problem.js";
import { doubt, percent } from "./score.js";
import { labelled, t } from "./texts.js";
import { whenDropped, whenPicturePasted } from "./transfer.js";

const element = (id) => document.getElementById(id);
const drop = element("drop");
const photo = element("photo");
const boxes = element("boxes");
const error = element("error");
const answer = element("answer");
const rows = [...element("bars").rows];
const isRanking = !rows[0].dataset.label; // of a model with too many labels for a row each
const mostBytes = Number(drop.dataset.mostBytes);
const why = element("why");
const SMALL = 240; // pixels of the longer side; pictures of less than half of it are shown larger
let flight = new AbortController();
let faces = []; // as /api/predict answered: faces, or the picture itself
let selected = 0;

why.addEventListener("change", () => {
  if (faces.length) select(selected);
});

element("photo-input").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) read(file);
  event.target.value = ""; // the same file can be chosen again
});

whenDropped(drop, drop, ({ files: [file] }) => read(file), fail);
whenPicturePasted(read);

const useCamera = element("use-camera");
useCamera.hidden = !hasCamera;
useCamera.addEventListener("click", async () => {
  try {
    const shot = await takePhoto(element("camera"));
    if (shot) read(shot);
  } catch {
    fail(new Problem(t("js.faces.camera")));
  }
  useCamera.focus();
});

/** Shows `file` and what its faces show. */
async function read(file) {
  reset();
  show(file);
  drop.dataset.state = "busy";
  say(drop.dataset.looking);
  flight.abort();
  flight = new AbortController();
  const { signal } = flight;
  try {
    const sent = await lightened(file);
    if (signal.aborted) return;
    if (sent.size > mostBytes) throw new Problem(t("js.faces.too_large"));
    const result = await ask(drop.dataset.predictUrl, sent, signal);
    if (!signal.aborted) tell(result);
  } catch (cause) {
    if (!signal.aborted) fail(cause);
  }
}

function reset() {
  faces = [];
  error.hidden = true;
  boxes.replaceChildren();
  answer.dataset.state = "empty";
  element("label").textContent = "";
  element("seen").hidden = true;
  element("which").hidden = true;
  showBars([], null);
}

function show(file) {
  URL.revokeObjectURL(photo.src);
  photo.removeAttribute("width");
  photo.src = URL.createObjectURL(file);
  photo.onload = enlarge;
  photo.onerror = () => (photo.parentElement.hidden = true);
  photo.parentElement.hidden = false;
  drop.dataset.state = "photo";
}

/** Shows a tiny picture at a multiple of its size, so that people see what it shows. */
function enlarge() {
  const times = Math.floor(SMALL / Math.max(photo.naturalWidth, photo.naturalHeight));
  photo.classList.toggle("is-enlarged", times > 1);
  if (times > 1) photo.width = times * photo.naturalWidth;
}

function fail(problem) {
  drop.dataset.state = photo.parentElement.hidden ? "empty" : "photo";
  showProblem(error, problem);
  say("");
}

/** Shows a result of /api/predict: a box for each face, and the scores of the first subject. */
function tell({ width, height, faces: found, subjects }) {
  faces = found ?? subjects;
  drop.dataset.state = "photo";
  const boxed = found ? faces.map((face, index) => box(face, index, width, height)) : [];
  boxes.replaceChildren(...boxed);
  select(0);
  const [{ label, score }] = faces;
  const told = { count: faces.length, label: labelled(label), score: percent(score) };
  say(found ? t("js.faces.found", told) : `${told.label}, ${told.score}`);
}

function box(face, index, width, height) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "face";
  Object.assign(button.style, {
    left: `${(100 * face.box.x) / width}%`,
    top: `${(100 * face.box.y) / height}%`,
    width: `${(100 * face.box.width) / width}%`,
    height: `${(100 * face.box.height) / height}%`,
  });
  // How far the photo's edges are, for the label: in widths of the face.
  button.style.setProperty("--before", face.box.x / face.box.width);
  button.style.setProperty("--after", (width - face.box.x) / face.box.width - 1);
  const tag = document.createElement("span");
  tag.className = "tag";
  const label = document.createElement("span");
  label.dataset.testid = "face-label";
  label.textContent = labelled(face.label);
  tag.append(label, ` ${percent(face.score, 0)}`);
  // High up in the photo there is no room for the label above the box.
  tag.classList.toggle("is-inside", face.box.y < 0.08 * height);
  button.append(tag);
  button.addEventListener("click", () => select(index));
  return button;
}

/** Shows the scores of one face. */
function select(chosen) {
  const { label, score, predictions } = faces[chosen];
  const unsure = doubt(faces[chosen]);
  selected = chosen;
  error.hidden = true;
  [...boxes.children].forEach((each, index) => each.setAttribute("aria-pressed", index === chosen));
  element("label").textContent = labelled(label);
  element("score").textContent = percent(score);
  element("sureness").textContent = unsure || t("js.answer.score");
  showCrop(faces[chosen]);
  if (why.checked) explain(faces[chosen]);
  showBars(predictions, label);
  const which = element("which");
  which.hidden = faces.length === 1;
  which.textContent = t("js.faces.which", { index: chosen + 1, count: faces.length });
  answer.dataset.state = "answer";
}

/** Shows what the network saw of `face`, or why it answers so where that is wanted and known. */
function showCrop({ label, seen, explanation }) {
  const explained = why.checked && explanation;
  const image = element("seen");
  image.src = explained || seen;
  image.alt = explained ? t("js.answer.why", { label: labelled(label) }) : image.dataset.alt;
  image.hidden = false;
}

/** Asks why the network answers so for `face`: about the crop that it saw, which is sent alone. */
async function explain(face) {
  if (face.asked) return;
  face.asked = true;
  const { signal } = flight;
  const url = new URL(drop.dataset.predictUrl, location);
  url.searchParams.set("faces", "whole");
  url.searchParams.set("explain", "true");
  try {
    face.explanation = (await ask(url, fileOf(face.seen), signal)).explanation;
    if (face === faces[selected]) showCrop(face);
  } catch (cause) {
    face.asked = false;
    if (!signal.aborted && face === faces[selected]) showProblem(error, cause);
  }
}

/** The scores of `predictions`, best first, in a row for each label or for each of the best. */
function showBars(predictions, best) {
  for (const [place, row] of rows.entries()) {
    const each = isRanking
      ? predictions[place]
      : predictions.find((prediction) => prediction.label === row.dataset.label);
    if (isRanking) row.cells[0].textContent = each ? labelled(each.label) : "–";
    bar(row, each?.score ?? null, each !== undefined && each.label === best);
  }
}

function bar(row, score, best) {
  row.querySelector(".fill").style.transform = `scaleX(${score ?? 0})`;
  row.querySelector(".bar-score").textContent = score === null ? "–" : percent(score);
  row.classList.toggle("is-best", best);
}

/** Has a screen reader say `text`. */
function say(text) {
  element("live").textContent = text;
}
