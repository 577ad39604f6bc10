/** The page for many pictures: wires their choice to the queue, the table and the CSV file. */

import { csv } from "./csv.js";
import { whenFiles } from "./files.js";
import { whenBack } from "./line.js";
import { Problem, showProblem } from "./problem.js";
import { Queue } from "./queue.js";
import { Table } from "./table.js";
import { labelled, number, t } from "./texts.js";
import { saveAs } from "./transfer.js";
import { view } from "./viewer.js";

const MOST = 100; // pictures in the table
const MOST_COUNTS = 12; // labels that are counted in the summary
const TOLD = 4; // times that progress is read out

const element = (id) => document.getElementById(id);
const drop = element("drop");
const model = element("model");
const faces = element("faces");
const go = element("go");
const folder = element("folder-input");

const table = new Table(element("answers"), (entry) => view(element("viewer"), entry, told()));
const limits = { images: Number(drop.dataset.mostImages), bytes: Number(drop.dataset.mostBytes) };
const queue = new Queue(limits, {
  answer(entry, { result, error }) {
    Object.assign(entry, { result, error });
    table.show(entry);
    table.order();
    tell();
  },
  wait(seconds) {
    const sentence = t("js.batch.wait", { seconds });
    element("count").textContent = sentence;
    say(sentence);
  },
  halt({ message, said, isLost, isSlow }) {
    notice(new Problem(t("js.batch.again", { problem: message }), said));
    if (isLost && !isSlow) stopWaiting = whenBack(start);
    tell();
  },
  end() {
    tell();
    say(t("js.batch.done", { progress: progress() }));
  },
});
let quarter = 0;
let stopWaiting = () => {}; // for the server to come back

whenFiles(drop, [element("pictures-input"), folder], MOST, take, (problem) =>
  notice(problem ?? new Problem(t("js.batch.folder"))),
);
for (const setting of [model, faces]) setting.addEventListener("change", askAgain);
go.addEventListener("click", () => {
  if (queue.running) {
    queue.stop();
    tell();
    say(t("js.batch.stopped", { progress: progress() }));
  } else {
    start();
  }
});
element("clear").addEventListener("click", clear);
element("download").addEventListener("click", download);
for (const part of [folder, folder.previousElementSibling]) part.hidden = !("webkitdirectory" in folder);
showFaces();

/** Takes files into the table, as far as there is room, and asks about them. */
function take(files) {
  const room = MOST - table.entries.length;
  const taken = files.slice(0, room);
  const left = files.length > room;
  element("note").textContent = room
    ? t("js.batch.more", { most: MOST })
    : t("js.batch.full", { most: MOST });
  element("note").hidden = !left;
  if (!taken.length) return say(element("note").textContent);
  for (const entry of taken) table.show(entry);
  table.order();
  queue.add(taken);
  start();
  if (left) say(element("note").textContent);
}

function start() {
  stopWaiting();
  notice(null);
  const url = new URL(drop.dataset.predictUrl, location);
  url.searchParams.set("model", model.value);
  url.searchParams.set("seen", "true");
  if (takesCrops()) url.searchParams.set("faces", faces.value);
  queue.start(url);
  say(progress());
  tell();
}

/** Asks about all pictures anew, since the settings are others. */
function askAgain() {
  showFaces();
  const { entries } = table;
  if (!entries.length) return;
  queue.clear();
  for (const entry of entries) {
    Object.assign(entry, { result: undefined, error: undefined });
    table.show(entry);
  }
  table.order();
  queue.add(entries);
  start();
}

function clear() {
  stopWaiting();
  queue.clear();
  table.clear();
  notice(null);
  element("note").hidden = true;
  tell();
  say(t("js.batch.emptied"));
  element("pictures-input").focus();
}

/** Shows how far it is, and what there is to press. */
function tell() {
  const { entries } = table;
  const done = entries.filter(isDone);
  drop.dataset.state = entries.length ? "full" : "empty";
  element("results").hidden = !entries.length;
  drop.querySelector(".button").classList.toggle("primary", !entries.length);
  element("progress").max = entries.length || 1;
  element("progress").value = done.length;
  element("count").textContent = progress();
  element("download").disabled = !done.length;
  const over = done.length === entries.length;
  if (over && document.activeElement === go) element("download").focus();
  go.hidden = over;
  go.textContent = queue.running ? t("js.batch.stop") : t("js.batch.go_on");
  element("counts").replaceChildren(...counts(done).map(([label, count]) => chip(label, count)));
  const reached = Math.floor((TOLD * done.length) / (entries.length || 1));
  if (queue.running && reached > quarter) say(progress());
  quarter = reached;
}

function progress() {
  const { entries } = table;
  const failed = entries.filter(({ error }) => error).length;
  const told = { done: entries.filter(isDone).length, total: entries.length, failed };
  return failed ? t("js.batch.failed", told) : t("js.batch.progress", told);
}

function isDone({ result, error }) {
  return Boolean(result ?? error);
}

/** How often each label stands in the table, the most frequent first. */
function counts(entries) {
  const found = new Map();
  for (const { result } of entries) {
    for (const { label } of result?.faces ?? (result ? [result] : [])) {
      const name = labelled(label);
      found.set(name, (found.get(name) ?? 0) + 1);
    }
  }
  const all = [...found].sort(([, a], [, b]) => b - a);
  const others = all.slice(MOST_COUNTS).reduce((sum, [, count]) => sum + count, 0);
  return others ? [...all.slice(0, MOST_COUNTS), [t("js.batch.others"), others]] : all;
}

function chip(label, count) {
  const item = document.createElement("li");
  const name = document.createElement("b");
  name.textContent = label;
  item.append(name, ` ${number(count)}×`);
  return item;
}

function download() {
  const { labels } = model.selectedOptions[0].dataset;
  const text = csv(table.entries.filter(isDone), JSON.parse(labels));
  saveAs(new Blob([text], { type: "text/csv;charset=utf-8" }), `${model.value}.csv`);
}

/** What a report is to know of the model. */
function told() {
  const { labels, none, size } = model.selectedOptions[0].dataset;
  return { labels: JSON.parse(labels), none, size };
}

function takesCrops() {
  return "takesCrops" in model.selectedOptions[0].dataset;
}

/** Shows whether crops can be sent, and how the command names the model. */
function showFaces() {
  const isDefault = model.value === model.dataset.default;
  element("command-model").textContent = isDefault ? "" : ` --model ${model.value}`;
  faces.parentElement.hidden = !takesCrops();
}

/** Shows `problem`; with null, that there is none. */
function notice(problem) {
  showProblem(element("error"), problem);
}

/** Has a screen reader say `text`. */
function say(text) {
  element("live").textContent = text;
}
