/** A picture of the table at its full size, with the boxes of what was found in it. */

import { percent } from "./score.js";
import { labelled } from "./texts.js";

/** Shows `entry`, {file, name} with or without a result, in `dialog` until that is closed. */
export function view(dialog, { file, name, result }) {
  const image = dialog.querySelector("img");
  const address = URL.createObjectURL(file);
  image.src = address;
  image.alt = name;
  dialog.querySelector("h2").textContent = name;
  const parts = result?.faces ?? result?.subjects ?? [];
  const boxes = parts.map((part) => box(part, result));
  dialog.querySelector(".boxes").replaceChildren(...boxes);
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
