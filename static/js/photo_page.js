/** A page for photos: one chosen, dropped, pasted or taken, and what the model says of it. */

import { hasCamera, takePhoto } from "./camera.js";
import { fileOf } from "./encode.js";
import { Faces, summary } from "./faces.js";
import { Heat } from "./heat.js";
import { whenBack } from "./line.js";
import { ask, lightened } from "./photo.js";
import { runMirror } from "./mirror.js";
import { Problem, showProblem } from "./problem.js";
import { offerCopies } from "./results.js";
import { doubt, percent } from "./score.js";
import { addressOf, offerModels } from "./second.js";
import { tellShown } from "./shown.js";
import { labelled, t } from "./texts.js";
import { whenDropped, whenPicturePasted } from "./transfer.js";
import { Zoom } from "./zoom.js";

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
const tools = drop.querySelector(".tools");
const doing = element("doing");
const stop = element("stop");
const boxed = new Faces(boxes, element("strip"), choose);
const zooms = drop.querySelectorAll("[data-zoom]");
const zoom = new Zoom(photo.closest(".photo"), element("zoomed"), zooms, () => boxed.place());
let flight = new AbortController();
let faces = []; // as /api/predict answered: faces, or the picture itself
let names = []; // of the faces, with their places
let size = [1, 1]; // of the photo
let selected = 0;
let given = null; // the photo's name and result, for copies
let taken = null; // what was sent of the photo
let others = []; // the faces as the second model answers
const heat = new Heat(() => select(selected));
const rival = element("rival");
const copies = element("copies");
const labels = isRanking ? [] : JSON.parse(copies.dataset.labels); // a column each

offerModels(rival);
rival?.addEventListener("change", askRival);
offerCopies(copies, () => ({ entries: given ? [given] : [], labels }), say);
allowCopies(false);
let stopWaiting = () => {}; // for the server to come back

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
    const shot = await takePhoto(element("camera"), runMirror);
    if (shot) read(shot);
  } catch {
    fail(new Problem(t("js.faces.camera")));
  }
  useCamera.focus();
});

stop.addEventListener("click", () => {
  flight.abort();
  hide();
  rest();
  say(t("js.faces.stopped"));
});

for (const sample of document.querySelectorAll("[data-sample]")) {
  sample.addEventListener("click", async () => {
    try {
      const blob = await (await fetch(sample.dataset.sample)).blob();
      element("photo-input").focus({ preventScroll: true }); // the sample is gone with the first photo
      read(blob);
    } catch {
      fail(new Problem(t("js.photo.unreachable")));
    }
  });
}

function allowCopies(can) {
  for (const button of copies.children) button.disabled = !can;
}

/** Shows `file` and what its faces show. */
async function read(file) {
  reset();
  show(file);
  work();
  flight.abort();
  flight = new AbortController();
  const { signal } = flight;
  try {
    const sent = await lightened(file);
    if (signal.aborted) return;
    if (sent.size > mostBytes) throw new Problem(t("js.faces.too_large"));
    const result = await ask(drop.dataset.predictUrl, sent, signal, tellSent);
    if (signal.aborted) return;
    taken = sent;
    given = { name: file.name ?? "", result };
    tell(result);
    askRival();
  } catch (cause) {
    if (signal.aborted) return;
    if (cause.isLost && !cause.isSlow) stopWaiting = whenBack(() => read(file));
    fail(cause);
  }
}

/** Shows that the photo is under way, with a button to stop. */
function work() {
  const isFocused = tools.contains(document.activeElement);
  drop.dataset.state = "busy";
  tools.hidden = true;
  doing.hidden = false;
  tellSent(0);
  say(drop.dataset.looking);
  if (isFocused) stop.focus();
}

function rest() {
  const isFocused = document.activeElement === stop;
  tools.hidden = false;
  doing.hidden = true;
  if (isFocused) element("photo-input").focus();
}

/** Shows how much of the photo is sent, and then what is done with it. */
function tellSent(share) {
  const bar = element("sent");
  if (share < 1) bar.value = share;
  else bar.removeAttribute("value");
  element("doing-text").textContent =
    share < 1 ? t("js.photo.sending", { share: percent(share, 0) }) : drop.dataset.looking;
}

function reset() {
  faces = [];
  others = [];
  taken = given = null;
  tellShown(null);
  heat.reset();
  showRival();
  allowCopies(false);
  stopWaiting();
  error.hidden = true;
  boxed.clear();
  element("headline").textContent = "";
  answer.dataset.state = "empty";
  delete answer.dataset.verdict;
  element("label").textContent = "";
  element("seen").hidden = true;
  element("which").hidden = true;
  showBars([], null);
}

function show(file) {
  URL.revokeObjectURL(photo.src);
  zoom.reset();
  photo.closest(".photo").hidden = true; // until its size is known: it is shown once, in its place
  photo.onload = enlarge;
  photo.onerror = hide;
  photo.src = URL.createObjectURL(file);
}

function hide() {
  photo.onload = null;
  photo.closest(".photo").hidden = true;
  if (drop.dataset.state !== "busy" || flight.signal.aborted) drop.dataset.state = "empty";
}

/** Shows the photo as large as it can be; a tiny one at a multiple of its size. */
function enlarge() {
  const { naturalWidth: width, naturalHeight: height } = photo;
  const times = Math.floor(SMALL / Math.max(width, height));
  photo.classList.toggle("is-enlarged", times > 1);
  const { style } = photo.closest(".photo");
  style.setProperty("--ratio", width / height);
  style.setProperty("--most", `${Math.max(times, 2) * width}px`);
  photo.closest(".photo").hidden = false;
  if (drop.dataset.state === "empty") drop.dataset.state = "photo";
  boxed.place();
}

function fail(problem) {
  rest();
  drop.dataset.state = photo.closest(".photo").hidden ? "empty" : "photo";
  showProblem(error, problem);
  say("");
}

/** Shows a result of /api/predict: a box for each face, and the scores of the first subject. */
function tell({ width, height, faces: found, subjects }) {
  rest();
  faces = found ?? subjects;
  size = [width, height];
  allowCopies(true);
  drop.dataset.state = "photo";
  names = found ? boxed.show(faces, width, height) : [];
  const count = faces.length;
  element("headline").textContent = found ? t("js.faces.headline", { count, list: summary(faces) }) : "";
  select(0);
  const [{ label, score }] = faces;
  const told = { count, label: labelled(label), score: percent(score) };
  say(found ? t("js.faces.found", told) : `${told.label}, ${told.score}`);
}

/** Shows the scores of the face that a person chose. */
function choose(index) {
  select(index);
  const { x, y, width, height } = faces[index].box;
  zoom.centre((x + width / 2) / size[0], (y + height / 2) / size[1]);
  say(names[index]);
}

/** Shows the scores of one face. */
function select(chosen) {
  const { label, score, predictions } = faces[chosen];
  const unsure = doubt(faces[chosen], boxes.hasChildNodes());
  selected = chosen;
  error.hidden = true;
  boxed.mark(chosen);
  answer.dataset.verdict = faces[chosen].verdict;
  element("label").textContent = labelled(label);
  element("score").textContent = percent(score);
  element("sureness").textContent = unsure || t("js.answer.score");
  if (why.checked) heat.offer(predictions);
  else heat.reset();
  showCrop(faces[chosen]);
  if (why.checked) explain(faces[chosen], heat.label || label);
  showRival();
  showBars(predictions, label);
  const which = element("which");
  which.hidden = faces.length === 1;
  which.textContent = t("js.faces.which", { index: chosen + 1, count: faces.length });
  answer.dataset.state = "answer";
  tellShown(faces[chosen], given.result);
}

/** Shows what the network saw of `face`, or why it answers so where that is wanted and known. */
function showCrop(face) {
  const { label, seen, reasons } = face;
  const reason = why.checked && reasons?.get(heat.label || label);
  if (reason?.heat && heat.fits(face)) heat.show(reason.heat, face, ...size);
  else heat.clear();
  const explained = reason && !heat.fits(face) && reason.explanation;
  const image = element("seen");
  image.src = explained || seen;
  image.alt = explained ? t("js.answer.why", { label: labelled(label) }) : image.dataset.alt;
  image.hidden = false;
}

/** Asks what supports a label for `face`: about the crop that the network saw, which is sent alone. */
async function explain(face, label) {
  face.reasons ??= new Map();
  if (face.reasons.has(label)) return;
  face.reasons.set(label, null); // is asked for
  const { signal } = flight;
  const url = new URL(drop.dataset.predictUrl, location);
  url.searchParams.set("faces", "whole");
  url.searchParams.set("explain", "true");
  url.searchParams.set("label", label);
  try {
    const { faces: found, subjects } = await ask(url, fileOf(face.seen), signal);
    face.reasons.set(label, (found ?? subjects)[0]);
    if (face === faces[selected]) showCrop(face);
  } catch (cause) {
    face.reasons.delete(label);
    if (!signal.aborted && face === faces[selected]) showProblem(error, cause);
  }
}

/** Asks the second model about the photo. */
async function askRival() {
  others = [];
  showRival();
  const photoOf = taken;
  if (!rival?.value || !photoOf) return;
  const { value } = rival;
  const { signal } = flight;
  const isStill = () => taken === photoOf && rival.value === value;
  try {
    const result = await ask(addressOf(rival), photoOf, signal);
    if (!isStill()) return;
    others = result.faces ?? result.subjects;
    showRival();
  } catch (cause) {
    if (!signal.aborted && isStill()) element("rival-answer").textContent = cause.message;
  }
}

/** Shows what the second model says of the chosen face: both find the same ones. */
function showRival() {
  if (!rival) return;
  const other = others[selected];
  const told = other && t("js.score.answer", { label: labelled(other.label), score: percent(other.score) });
  element("rival-answer").textContent = told ?? "";
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
