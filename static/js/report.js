/** “Not right?”: what the shown answer should have been is reported, and can be taken back. */

import { copyText } from "./clipboard.js";
import { copied } from "./photo.js";
import { postOnce } from "./post.js";
import { failure, Problem, problemOf, showProblem } from "./problem.js";
import { percent } from "./score.js";
import { labelled, t } from "./texts.js";
import { withdraw } from "./withdraw.js";

const MOST_CHOICES = 12; // labels that have a button each; of more, the likeliest
const LIKELIEST = 10;
const SHOWN = 2000; // ms for which a button says that it has copied

const element = (id) => document.getElementById(id);
const dialog = element("report");
const form = element("report-form");
const thanks = element("report-thanks");
const word = element("report-word");
const whole = element("report-whole");
const consent = element("report-consent");
const error = element("report-error");
const title = element("report-title");
const openers = { report: element("report-open"), unsure: element("report-keep") };
const labels = JSON.parse(dialog.dataset.labels);
const copy = element("report-copy");
const copyName = copy.textContent;
let current = null; // what the page shows: {subject, result, picture, model, version, id}
let about = null; // what the dialog speaks of: the same, and its kind
let isBusy = false; // while something is under way
let code = "";

element("answer").addEventListener("shown", ({ detail }) => {
  current = detail;
  openers.report.disabled = !detail;
  openers.unsure.hidden = detail?.subject.verdict !== "unsure";
});

for (const [kind, opener] of Object.entries(openers)) {
  opener.addEventListener("click", () => {
    if (!isBusy && (about?.subject !== current.subject || about.kind !== kind)) begin(kind);
    dialog.showModal();
    title.focus();
  });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!isBusy) run(send);
});
element("report-withdraw").addEventListener("click", () => {
  if (!isBusy) run(takeBack);
});
copy.addEventListener("click", async () => {
  copy.textContent = (await copyText(code)) ? t("js.report.copied") : t("js.report.blocked");
  setTimeout(() => (copy.textContent = copyName), SHOWN);
});
for (const button of dialog.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => dialog.close());
}
// What is typed or pasted here is no drawing's or photo's.
for (const kind of ["keydown", "paste"]) dialog.addEventListener(kind, (event) => event.stopPropagation());
word.addEventListener("input", () => (form.elements.said.value = "word"));

/** Has the dialog speak of what is shown. */
function begin(kind) {
  about = { ...current, kind };
  const { label, score, predictions, seen } = about.subject;
  title.textContent = openers[kind].textContent;
  element("report-about").textContent = t("js.report.about", { label: labelled(label), score: percent(score) });
  element("report-seen").src = seen;
  const offered = labels.length > MOST_CHOICES ? predictions.slice(0, LIKELIEST).map((each) => each.label) : labels;
  element("report-labels").replaceChildren(...offered.map(choice));
  form.reset();
  for (const part of form.querySelectorAll("[data-said]")) part.hidden = kind === "unsure";
  tell(null);
  form.hidden = false;
  thanks.hidden = true;
}

/** A button for `label`. */
function choice(label) {
  const button = document.createElement("label");
  button.className = "choice";
  button.dataset.testid = `report-label-${label}`;
  const input = document.createElement("input");
  input.type = "radio";
  input.name = "said";
  input.value = `label:${label}`;
  button.append(input, labelled(label));
  return button;
}

/** Does `work()`, one at a time, and says what goes wrong. */
async function run(work) {
  isBusy = true;
  tell(null);
  try {
    await work();
  } catch (cause) {
    tell(failure(cause, t("js.report.slow"), t("js.report.unreachable")));
  } finally {
    isBusy = false;
    element("report-status").textContent = "";
  }
}

async function send() {
  const report = {
    answer: `${about.id}.${indexOf(about)}`,
    model: `${about.model}@${about.version}`,
    kind: about.kind,
    label: about.kind === "report" ? said() : undefined,
    seen: about.subject.seen,
    consent: agreed(),
  };
  element("report-status").textContent = t("js.report.sending");
  if (whole.checked) report.picture = await wholePicture();
  const headers = { "Content-Type": "application/json" };
  const response = await postOnce(dialog.dataset.url, JSON.stringify(report), headers);
  const answer = await response.json().catch(() => null);
  if (!response.ok || !answer) {
    throw problemOf(answer, t("js.report.failed", { status: response.status }));
  }
  ({ code } = answer);
  element("report-code").textContent = code;
  element("report-later").hash = code;
  element("report-kept").hidden = false;
  element("report-gone").hidden = true;
  form.hidden = true;
  thanks.hidden = false;
  title.textContent = dialog.dataset.thanks;
  if (!dialog.open) dialog.showModal(); // what was sent cannot be cancelled, but withdrawn
  title.focus();
}

async function takeBack() {
  await withdraw(dialog.dataset.withdrawUrl, code);
  about = null; // it may be reported anew
  element("report-kept").hidden = true;
  element("report-gone").hidden = false;
  element("report-gone").focus();
}

/** The number of the subject in its answer, from 0. */
function indexOf({ subject, result }) {
  return (result.faces ?? result.subjects).indexOf(subject);
}

/** The label or word that is chosen, null for none of the labels; throws a Problem where nothing is. */
function said() {
  const { value } = form.elements.said;
  if (value === "none") return null;
  const own = word.value.trim();
  if (value === "word" && own) {
    const is = (label) => [label, labelled(label)].some((name) => name.toLowerCase() === own.toLowerCase());
    return labels.find(is) ?? own;
  }
  if (value.startsWith("label:")) return value.slice("label:".length);
  const first = value === "word" ? word : form.querySelector("[name=said]");
  first.focus();
  throw above(element("report-labels"), t("js.report.choose"));
}

/** True; throws a Problem where the visitor has not agreed. */
function agreed() {
  if (consent.checked) return true;
  consent.focus();
  throw above(consent.parentElement, t("js.report.agree"));
}

/** The whole picture as a data URL, drawn anew: without what a file says beside its picture. */
async function wholePicture() {
  try {
    return await dataUrl(await copied(about.picture));
  } catch {
    throw new Problem(t("js.report.unreadable"));
  }
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

/** A Problem that is told above `place`. */
function above(place, sentence) {
  return Object.assign(new Problem(sentence), { place });
}

/** Shows `problem` where it belongs; with null, that there is none. */
function tell(problem) {
  const buttons = (form.hidden ? thanks : form).querySelector(":scope > .share");
  (problem?.place ?? buttons).before(error);
  showProblem(error, problem);
  if (problem) error.scrollIntoView({ block: "nearest" });
}
