/** A picture of the table at its full size, with the boxes of what was found in it. */

import { doubt, percent } from "./score.js";
import { labelled, t } from "./texts.js";

/**
 * Shows `entry`, {file, name} with or without a result, in `dialog` until that is closed. Where
 * answers may be reported, `model` is what js/report.js is to know of the model.
 */
export function view(dialog, { file, name, result }, model) {
  const image = dialog.querySelector("img");
  const address = URL.createObjectURL(file);
  image.src = address;
  image.alt = name;
  dialog.querySelector("h2").textContent = name;
  const parts = result?.faces ?? result?.subjects ?? [];
  const boxes = parts.map((part) => box(part, result));
  dialog.querySelector(".boxes").replaceChildren(...boxes);
  dialog.querySelector(".parts")?.replaceChildren(...parts.map((part) => line(part, result, model)));
  dialog.addEventListener("close", () => URL.revokeObjectURL(address), { once: true });
  dialog.showModal();
}

function box({ box: { x, y, width, height }, label, score }, picture) {
  const element = document.createElement("div");
  element.className = "marked";
  element.title = `${labelled(label)} ${percent(score, 0)}`;
  Object.assign(element.style, {
    left: `${(100 * x) / picture.width}%`,
    top: `${(100 * y) / picture.height}%`,
    width: `${(100 * width) / picture.width}%`,
    height: `${(100 * height) / picture.height}%`,
  });
  return element;
}

/** What one subject was taken for, with buttons to report it. */
function line(subject, result, model) {
  const { label, score, seen, verdict } = subject;
  const item = document.createElement("li");
  const image = document.createElement("img");
  image.src = seen;
  image.alt = "";
  const told = document.createElement("span");
  const name = document.createElement("b");
  name.textContent = labelled(label);
  told.append(name, ` ${percent(score)}`, ` ${doubt(subject, Boolean(result.faces))}`);
  const button = (kind, text) => {
    const element = document.createElement("button");
    element.type = "button";
    element.textContent = text;
    element.dataset.testid = kind === "unsure" ? "report-keep" : "report-open";
    element.setAttribute("aria-haspopup", "dialog");
    element.addEventListener("click", () => {
      const detail = { ...model, subject, result, kind };
      document.dispatchEvent(new CustomEvent("report", { detail }));
    });
    return element;
  };
  item.append(image, told, button("report", t("js.viewer.report")));
  if (verdict === "unsure") item.append(button("unsure", t("js.viewer.keep")));
  return item;
}
