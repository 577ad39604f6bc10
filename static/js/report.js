/** “Not right?”: what the shown answer should have been is reported, and can be taken back. */

import { copyText } from "./clipboard.js";
import { copied } from "./photo.js";
import { postOnce } from "./post.js";
import { failure, Problem, problemOf, showProblem } from "./problem.js";
import { percent } from "./score.js";
import { sourceOf } from "./shown.js";
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
const copy = element("report-copy");
const copyName = copy.textContent;
let about = null; // what the dialog speaks of, as `open` takes it
let isBusy = false; // while something is under way
let code = "";

// Where a page shows one answer at a time, there are two buttons for it.
const opener = element("report-open");
if (opener) {
  const keeper = element("report-keep");
  const { labels, none, size } = opener.dataset;
  let shown = null;
  element("answer").addEventListener("shown", ({ detail }) => {
    shown = detail && { ...detail, labels: JSON.parse(labels), none, size };
    opener.disabled = !shown;
    keeper.hidden = shown?.subject.verdict !== "unsure";
  });
  opener.addEventListener("click", () => open({ ...shown, kind: "report" }));
  keeper.addEventListener("click", () => open({ ...shown, kind: "unsure" }));
}
// Elsewhere a script asks for it.
document.addEventListener("report", ({ detail }) => open(detail));

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

/**
 * Opens the dialog for a `subject` of a `result`: of `kind` "report", or "unsure" for an answer that
 * may be kept. `labels` are the model's, `none` says that it is none of these, and `size` how large
 * the picture is that the network saw.
 */
function open(asked) {
  if (!isBusy && (about?.subject !== asked.subject || about.kind !== asked.kind)) begin(asked);
  dialog.showModal();
  title.focus();
}

function begin(asked) {
  about = asked;
  const { label, score, predictions, seen, verdict } = about.subject;
  const { labels, kind, none, size } = about;
  title.textContent = kind === "unsure" ? dialog.dataset.keep : dialog.dataset.report;
  const told = { label: labelled(label), score: percent(score), none };
  const isNone = verdict === "none";
  element("report-about").textContent = isNone ? t("js.report.about_none", told) : t("js.report.about", told);
  element("report-size").textContent = t("js.report.seen", { size });
  element("report-none").textContent = none;
  const image = element("report-seen");
  image.src = seen;
  const isLong = labels.length > MOST_CHOICES;
  const offered = isLong ? predictions.slice(0, LIKELIEST).map((each) => each.label) : labels;
  element("report-labels").classList.toggle("of-digits", labels.every((each) => each.length === 1));
  element("report-labels").replaceChildren(...offered.map(choice));
  element("report-all").replaceChildren(...(isLong ? labels.map((each) => new Option("", labelled(each))) : []));
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
  const { subject, result, kind } = about;
  const { id, model, version } = sourceOf(result);
  const report = {
    answer: `${id}.${(result.faces ?? result.subjects).indexOf(subject)}`,
    model: `${model}@${version}`,
    kind,
    label: kind === "report" ? said() : undefined,
    seen: subject.seen,
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

/** The label or word that is chosen, null for none of the labels; throws a Problem where nothing is. */
function said() {
  const { value } = form.elements.said;
  if (value === "none") return null;
  const own = word.value.trim();
  if (value === "word" && own) {
    const is = (label) => [label, labelled(label)].some((name) => name.toLowerCase() === own.toLowerCase());
    return about.labels.find(is) ?? own;
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
    return await dataUrl(await copied(sourceOf(about.result).picture));
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
