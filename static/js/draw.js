/** The page for drawing a digit: wires the pad, its buttons and keys to the answer. */

import { Answer, surenessOf } from "./answer.js";
import { copyText } from "./clipboard.js";
import { Challenge } from "./challenge.js";
import { keep, kept, linkTo, linked } from "./drawing.js";
import { Heat } from "./heat.js";
import { KeyboardPen } from "./keyboard.js";
import { Pad } from "./pad.js";
import { lightened } from "./photo.js";
import { pictureOf } from "./poster.js";
import { showProblem } from "./problem.js";
import { Reader } from "./reader.js";
import { showSamples } from "./samples.js";
import { percent } from "./score.js";
import { addressOf, offerModels } from "./second.js";
import { Sheet } from "./sheet.js";
import { tellShown } from "./shown.js";
import { t } from "./texts.js";
import { saveAs } from "./transfer.js";
import { Visit } from "./visit.js";

const SETTLED = 700; // ms without a change after which an answer is read out
const LONG = 800; // ms of waiting that are told
const RETRY = 3000; // ms at least from a lost picture to the next try

const element = (id) => document.getElementById(id);
const canvas = element("pad");
const error = element("error");

const pad = new Pad(canvas);
const pen = new KeyboardPen(pad, canvas, element("pen"), say);
const heat = new Heat(readAgain, true);
const answer = new Answer(element("answer"), (subject) => {
  showHeat(subject);
  tellShown(subject, shown);
});
const reader = new Reader(canvas.dataset.predictUrl, hear);
const why = element("why");
// A page in a frame elsewhere has neither.
const visit = element("visit") && new Visit(element("visit"), say);
const challenge = element("challenge") && new Challenge(element("challenge"), invite, clear);
const invitation = canvas.parentElement.querySelector(".invitation p");
const invited = [...invitation.childNodes];
const sheet = new Sheet(element("sheet"), canvas.parentElement, element("picture-input"), tellProblem);
let settling = 0;
let waiting = 0;
let again = 0;
let sent = 1; // the share of a picture that the server has
let picture = null; // gives what is on the pad
let shown = null; // the result that is shown

pad.addEventListener("change", () => {
  clearTimeout(settling);
  if (!pad.empty) sheet.clear();
  challenge?.wait();
  showWhetherEmpty();
  if (pad.empty) {
    visit?.next();
    reader.stop();
    hear({});
  } else {
    read(() => pad.picture());
  }
});

sheet.addEventListener("picture", ({ detail: file }) => {
  pen.lift();
  pad.clear();
  visit?.next();
  showWhetherEmpty();
  read(() => lightened(file));
});

why.addEventListener("change", () => {
  if (!why.checked) heat.reset();
  readAgain();
});

// A second opinion, where there is another model that reads digits.
const rival = element("rival");
const second = new Reader("", hearSecond);
offerModels(rival);
rival?.addEventListener("change", () => {
  second.stop();
  element("rival-answer").textContent = "";
  if (!pad.empty || !sheet.empty) readSecond();
});

element("undo").addEventListener("click", undo);
element("clear").addEventListener("click", clear);
element("save").addEventListener("click", () => save(() => pad.picture(), t("js.draw.file")));
element("poster").addEventListener("click", () =>
  save(() => pictureOf(pad.strokes, shown, shown && surenessOf(shown)), t("js.draw.poster")),
);
element("link").addEventListener("click", copyLink);
showSamples(element("samples"), (strokes, name) => {
  pen.lift();
  visit?.next();
  pad.replace(strokes);
  canvas.focus({ preventScroll: true }); // the sample that was pressed is gone
  say(t("js.samples.drawn", { name }));
});

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

addEventListener("online", retry);
addEventListener("pagehide", () => keep(pad.strokes));
document.addEventListener("visibilitychange", () => keep(pad.strokes)); // phones end hidden pages without a word
addEventListener("hashchange", () => {
  const strokes = linked();
  if (strokes) pad.replace(strokes);
});
const before = kept();
if (before) pad.replace(before);

function read(from) {
  picture = from;
  answer.busy = true;
  sent = 1;
  clearTimeout(again);
  waiting ||= setInterval(tellWaiting, LONG);
  reader.read(picture, sheet.empty ? undefined : (share) => (sent = share));
  readSecond();
}

/** Asks anew where what is wanted of an answer has changed. */
function readAgain() {
  reader.url = address();
  if (!pad.empty || !sheet.empty) read(picture);
}

/** What is asked of a drawing. */
function address() {
  const url = new URL(canvas.dataset.predictUrl, location);
  if (!why.checked) return url;
  url.searchParams.set("explain", "true");
  if (heat.label) url.searchParams.set("label", heat.label);
  return url;
}

/** Lays over the drawing what supports a label of `subject`. */
function showHeat(subject) {
  if (!why.checked || !subject.heat || !heat.fits(subject)) return heat.reset();
  heat.offer(subject.predictions);
  reader.url = address(); // a label that has become the best is no longer another
  heat.show(subject.heat, subject, shown.width, shown.height);
}

/** Has the empty pad say what to draw: `task`, or else anything. */
function invite(task) {
  const { classList } = invitation.parentElement;
  classList.toggle("has-task", task !== "");
  invitation.replaceChildren(...(task ? [task] : invited));
}

function readSecond() {
  if (!rival?.value) return;
  second.url = addressOf(rival);
  second.read(picture);
}

function hearSecond({ result, error: problem }) {
  const told = result ? t("js.score.answer", { label: result.label, score: percent(result.score) }) : "";
  element("rival-answer").textContent = told || (problem?.message ?? "");
}

/** Reads again what no answer came to. */
function retry() {
  if (error.hidden || !picture || (pad.empty && sheet.empty)) return;
  read(picture);
}

/** Says what a long wait is for. */
function tellWaiting() {
  const share = percent(sent, 0);
  element("waiting").textContent = sent < 1 ? t("js.draw.sending", { share }) : t("js.draw.reading");
  element("answer").classList.add("is-waiting");
}

function tellNoWaiting() {
  clearInterval(waiting);
  waiting = 0;
  element("answer").classList.remove("is-waiting");
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
  for (const id of ["poster", "link"]) element(id).disabled = pad.empty;
  const inside = element("inside");
  if (inside) inside.href = pad.empty ? inside.dataset.page : linkTo(pad.strokes, inside.dataset.page);
}

/** Gives as a file what `make` gives. */
function save(make, name) {
  try {
    saveAs(make(), name);
  } catch (problem) {
    tellProblem(problem);
  }
}

async function copyLink() {
  const copied = await copyText(linkTo(pad.strokes));
  say(copied ? t("js.draw.linked") : t("js.draw.address"));
  if (!copied) history.replaceState(null, "", linkTo(pad.strokes));
  const button = element("link");
  button.textContent = copied ? t("js.draw.copied") : t("js.draw.in_address");
  setTimeout(() => (button.textContent = button.dataset.text), 2000);
}

function tellProblem(problem) {
  showProblem(error, problem);
}

/** Shows what the reader found. */
function hear({ result, blank, error: problem, wait }) {
  answer.busy = reader.busy;
  if (!reader.busy) tellNoWaiting();
  // A first dot may hold nothing to read; an opened picture should.
  tellProblem(problem ?? (sheet.empty ? null : blank));
  shown = result ?? null;
  if (!result && rival) {
    second.stop();
    element("rival-answer").textContent = "";
  }
  if (problem?.isLost) again = setTimeout(retry, Math.max(wait, RETRY));
  if (!result) {
    answer.reset();
    tellShown(null);
    heat.reset();
    reader.url = address();
    return;
  }
  answer.show(result);
  clearTimeout(settling);
  const { verdict, label, score } = result;
  const told = verdict === "sure" ? `${label}, ${percent(score)}` : `${label}: ${surenessOf(result)}`;
  settling = setTimeout(() => {
    visit?.note(result, pad.strokes);
    say(challenge?.hear(result) || told);
  }, SETTLED);
}

/** Has a screen reader say `text`. */
function say(text) {
  element("live").textContent = text;
}
