/** The grid of reports: decisions by mouse and keyboard, each of which can be undone. */

import { fetchWhole, NoAnswer } from "./post.js";
import { failure, Problem, problemOf, showProblem } from "./problem.js";
import { number, t } from "./texts.js";

const UNDO = "glimpse-review-undo"; // where a tab keeps what it can undo, which outlives a reload
const MOST_UNDO = 50;
const ACTIONS = { a: "accept", r: "reject", b: "new", x: "delete" };
const UNDOING = { new: "new", rejected: "reject", accepted: "relabel" };

const element = (id) => document.getElementById(id);
const grid = element("grid");
const error = element("error");
const live = element("live");

let queue = Promise.resolve(); // decisions are sent one after the other
let sending = 0;
let anchor = null; // the picture that was ticked last, from which Shift ticks a row
const undone = recalled();
const places = new Map(); // of pictures that a decision took away, by the numbers of their reports

const filters = document.querySelector(".filters");
filters.querySelector("button").hidden = true;
filters.addEventListener("change", ({ target }) => {
  if (target.name === "model") filters.elements.label.value = "";
  filters.requestSubmit();
});

if (grid) start();

function start() {
  for (const each of [element("undo"), element("help-open"), ...grid.querySelectorAll(".all")]) each.hidden = false;
  grid.addEventListener("submit", (event) => {
    event.preventDefault();
    act(event.submitter?.value ?? "accept");
  });
  grid.addEventListener("change", tell);
  grid.addEventListener("click", onClick);
  element("relabel").addEventListener("keydown", onRelabelKey);
  element("undo").addEventListener("click", undo);
  element("help-open").addEventListener("click", () => element("help").showModal());
  document.addEventListener("keydown", onKey);
  tell();
  boxes()[0]?.focus({ preventScroll: true });
}

function boxes() {
  return [...grid.querySelectorAll("[name=ids]")];
}

function ticked() {
  return boxes().filter((box) => box.checked);
}

/** The pictures that an action is for: those that are ticked, or else the one with the focus. */
function chosen() {
  const found = ticked();
  if (found.length) return found;
  const { activeElement } = document;
  return activeElement?.name === "ids" ? [activeElement] : [];
}

/** How many reports some pictures stand for. */
function reports(picked) {
  return picked.reduce((sum, box) => sum + box.value.split(",").length, 0);
}

function tell() {
  const count = reports(ticked());
  element("chosen").textContent = count ? t("js.review.chosen", { count }) : t("js.review.none");
  element("undo").disabled = !undone.length;
}

function onClick(event) {
  const { target } = event;
  if (target.classList.contains("all")) {
    const own = [...target.closest("section").querySelectorAll("[name=ids]")];
    const all = own.every((box) => box.checked);
    for (const box of own) box.checked = !all;
    tell();
    return;
  }
  const link = target.closest(".more");
  if (link && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
    event.preventDefault();
    show(link.href);
  }
  if (target.name !== "ids") return;
  if (event.shiftKey && anchor?.isConnected) {
    const all = boxes();
    const [from, to] = [all.indexOf(anchor), all.indexOf(target)].sort((one, other) => one - other);
    for (const box of all.slice(from, to + 1)) box.checked = target.checked;
  }
  anchor = target;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const { target, key } = event;
  if (target.matches("select, input:not([type=checkbox]), textarea")) return;
  if (press(key, target, event.shiftKey)) event.preventDefault();
}

/** Does what a key is for; gives whether it is for something. */
function press(key, target, withShift) {
  const letter = key.toLowerCase();
  if (key.startsWith("Arrow")) return target.matches("body, main, [name=ids]") && move(key, withShift);
  if (key === "?") element("help").showModal();
  else if (letter === "u") undo();
  else if (letter === "l") element("relabel").focus();
  else if (key === "Escape") clear();
  else if (key === "Enter" && target.name === "ids") show(target.closest(".shot").querySelector(".more").href);
  else if (letter in ACTIONS && grid.querySelector(`[value=${ACTIONS[letter]}]`)) act(ACTIONS[letter]);
  else if (keyed(letter)) act("relabel", keyed(letter).value);
  else return false;
  return true;
}

/** The label of a key. */
function keyed(letter) {
  return [...element("relabel").options].find((option) => option.dataset.key === letter);
}

/** In the list of labels, Enter takes the one that is shown. */
function onRelabelKey(event) {
  if (event.key !== "Enter" || event.target.value === "word") return;
  event.preventDefault();
  act("relabel");
}

function clear() {
  for (const box of ticked()) box.checked = false;
  tell();
}

/** Moves the focus to the next picture in that direction. */
function move(key, withShift) {
  const all = boxes();
  const from = all.indexOf(document.activeElement);
  if (from < 0) {
    all[0]?.focus();
    return true;
  }
  const to = key === "ArrowLeft" ? from - 1 : key === "ArrowRight" ? from + 1 : across(all, from, key === "ArrowDown");
  const next = all[to];
  if (!next) return true;
  if (withShift) all[from].checked = next.checked = true;
  next.focus();
  tell();
  return true;
}

/** The number of the nearest picture in the row below, or above. */
function across(all, from, isDown) {
  const centre = (box) => {
    const { left, right, top } = box.closest(".shot").getBoundingClientRect();
    return [(left + right) / 2, top];
  };
  const [x, y] = centre(all[from]);
  const spots = all.map((box, place) => [...centre(box), place]);
  const beyond = spots.filter(([, top]) => (isDown ? top > y + 4 : top < y - 4));
  if (!beyond.length) return -1;
  const row = isDown ? Math.min(...beyond.map(([, top]) => top)) : Math.max(...beyond.map(([, top]) => top));
  const inRow = beyond.filter(([, top]) => Math.abs(top - row) < 4);
  return inRow.reduce((best, spot) => (Math.abs(spot[0] - x) < Math.abs(best[0] - x) ? spot : best))[2];
}

/** Decides about what is chosen; asks first where that cannot be undone. */
async function act(action, label = element("relabel").value) {
  const picked = chosen();
  if (!picked.length) return say(t("js.review.choose"));
  if (action === "relabel" && !label) return element("relabel").focus();
  const form = { action, ids: picked.map((box) => box.value).join(",") };
  if (action === "relabel") Object.assign(form, { label, word: grid.elements.word.value });
  if (action === "relabel" && label === "word" && !form.word.trim()) return grid.elements.word.focus();
  if (action === "delete") {
    if (!(await isSure(reports(picked)))) return;
    form.sure = "1";
  }
  const shots = picked.map((box) => box.closest(".shot"));
  const count = reports(picked);
  const isSame = action === "relabel" && grid.dataset.tab === "accepted"; // it stays, with another label
  if (action !== "delete") remember(shots);
  leave(shots);
  grid.elements.word.value = element("relabel").value = "";
  const told = action === "delete" ? t("js.review.deleted", { count }) : t("js.review.done", { count });
  send(form, shots, () => say(told), isSame);
}

/** Takes pictures away; the focus goes to what comes after them. */
function leave(shots) {
  const all = boxes();
  const last = all.indexOf(shots.at(-1).querySelector("[name=ids]"));
  for (const shot of shots) {
    const next = shot.nextElementSibling;
    places.set(numbers(shot), { shot, list: shot.parentElement, next });
    shot.querySelector("[name=ids]").checked = false;
    shot.remove();
    tally(shot, -1);
  }
  const next = all.slice(last + 1).find((box) => box.isConnected) ?? boxes().at(-1);
  next?.focus();
  tell();
}

/** The numbers of a picture's reports. */
function numbers(shot) {
  return shot.querySelector("[name=ids]").value;
}

/** Counts a picture's reports in, or out, above its list. */
function tally(shot, sign) {
  const section = places.get(numbers(shot)).list.closest("section");
  section.hidden = !section.querySelector(".shot");
  const told = section.querySelector(".tally");
  if (!told) return;
  const count = Number(told.dataset.count) + sign * reports([shot.querySelector("[name=ids]")]);
  told.dataset.count = count;
  told.textContent = number(count);
}

/** Puts pictures back where they were. */
function putBack(shots) {
  for (const shot of shots.toReversed()) {
    const { list, next } = places.get(numbers(shot));
    if (next?.parentElement === list) next.before(shot);
    else list.append(shot);
    tally(shot, 1);
  }
  shots[0]?.querySelector("[name=ids]").focus();
  tell();
}

/** Sends a decision after those before it; where it fails, the pictures come back. */
function send(form, shots, then, isSame = false) {
  sending += 1;
  queue = queue.then(async () => {
    try {
      const answer = await posted(form);
      for (const [name, value] of Object.entries(answer.tabs)) {
        document.querySelector(`[data-tab=${name}] .tally`).textContent = number(value);
      }
      const update = element("update-text");
      if (update) update.textContent = answer.update;
      showProblem(error, null);
      then();
    } catch (cause) {
      if (shots.length && form.action !== "delete" && form.undoes === undefined) undone.pop();
      putBack(shots);
      keep();
      showProblem(error, failure(cause, t("js.review.slow"), t("js.review.unreachable")));
    }
    sending -= 1;
    if (!sending && error.hidden && (isSame || !boxes().length)) location.reload(); // what comes next
  });
  return queue;
}

async function posted(form) {
  const body = new URLSearchParams({ ...form, token: grid.elements.token.value });
  const init = { method: "POST", body, headers: { Accept: "application/json" } };
  const response = await fetchWhole(grid.action, init, { patience: 30_000 });
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  throw answer ? problemOf(answer, "") : new Problem(t("js.review.odd"));
}

/** Keeps how things were, to be undone. */
function remember(shots) {
  const before = shots.map((shot) => {
    const { status, label } = shot.dataset;
    return { ids: numbers(shot), action: UNDOING[status], label };
  });
  undone.push(before);
  undone.splice(0, undone.length - MOST_UNDO);
  keep();
}

function undo() {
  const before = undone.pop();
  if (!before) return say(t("js.review.nothing"));
  keep();
  const groups = new Map();
  for (const { ids, action, label } of before) {
    const key = JSON.stringify([action, label]);
    groups.set(key, [...(groups.get(key) ?? []), ids]);
  }
  const shots = before.map(({ ids }) => places.get(ids)?.shot).filter((shot) => shot && !shot.isConnected);
  putBack(shots);
  const isHere = shots.length === before.length;
  for (const [key, ids] of groups) {
    const [action, label] = JSON.parse(key);
    const count = ids.join(",").split(",").length;
    const told = () => say(t("js.review.undone", { count }));
    send({ action, label, ids: ids.join(","), undoes: "1" }, [], told, !isHere);
  }
  tell();
}

function keep() {
  try {
    sessionStorage.setItem(UNDO, JSON.stringify(undone));
  } catch {
    // What can be undone ends with the page.
  }
  tell();
}

function recalled() {
  try {
    return JSON.parse(sessionStorage.getItem(UNDO)) ?? [];
  } catch {
    return [];
  }
}

/** Whether the owner says so. */
function isSure(count) {
  const dialog = element("sure");
  element("sure-title").textContent = t("js.review.sure", { count });
  dialog.returnValue = "";
  const before = document.activeElement;
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        before?.focus();
        resolve(dialog.returnValue === "yes");
      },
      { once: true },
    );
  });
}

/** Shows a report's own page in this one. */
async function show(url) {
  const dialog = element("about");
  try {
    const response = await fetchWhole(url, {}, { patience: 30_000 });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const report = page.getElementById("report");
    if (!report) throw new Problem(t("js.review.gone"));
    const close = document.createElement("form");
    close.method = "dialog";
    close.append(Object.assign(document.createElement("button"), { textContent: dialog.dataset.close }));
    dialog.replaceChildren(document.adoptNode(report), close);
    dialog.showModal();
  } catch (cause) {
    const told = cause instanceof NoAnswer || cause instanceof Problem ? cause : new Problem(t("js.review.gone"));
    showProblem(error, failure(told, t("js.review.slow"), t("js.review.unreachable")));
  }
}

function say(text) {
  live.textContent = text;
  element("chosen").textContent = text;
}
