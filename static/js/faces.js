/** The faces found in a photo: their boxes, with the labels that have room, and a strip of crops. */

import { doubt, percent } from "./score.js";
import { labelled, t } from "./texts.js";

const DOT = 14; // pixels of a face that gets a dot
const CORNERS = 40; // pixels of a face that gets corners alone
const GAP = 4; // pixels around a label

export class Faces {
  #boxes;
  #strip;
  #take;
  #tags = [];

  /** `take(index)` hears which face is chosen. */
  constructor(boxes, strip, take) {
    this.#boxes = boxes;
    this.#strip = strip;
    this.#take = take;
    new ResizeObserver(() => this.place()).observe(boxes);
  }

  clear() {
    this.#boxes.replaceChildren();
    this.#strip.replaceChildren();
    this.#tags = [];
  }

  /** Shows `faces` of a photo of `width` × `height`, the largest first. */
  show(faces, width, height) {
    const names = namesOf(faces);
    const buttons = faces.map((face, index) => this.#box(face, names[index], width, height));
    for (const [index, button] of buttons.entries()) {
      button.addEventListener("click", () => this.#take(index));
    }
    this.#boxes.replaceChildren(...buttons);
    this.#strip.replaceChildren(...(faces.length > 1 ? faces.map((face, index) => this.#crop(face, index)) : []));
    return names;
  }

  /** Marks the face that is chosen. */
  mark(chosen) {
    for (const [index, each] of [...this.#boxes.children].entries()) {
      each.setAttribute("aria-pressed", index === chosen);
    }
    for (const [index, each] of [...this.#strip.children].entries()) {
      each.classList.toggle("is-chosen", index === chosen);
      if (index !== chosen) continue;
      const { offsetLeft, offsetWidth } = each;
      this.#strip.scrollLeft = offsetLeft + offsetWidth / 2 - this.#strip.clientWidth / 2;
    }
    this.place();
  }

  /** Puts the labels above their faces or below, those of larger faces first, where there is room. */
  place() {
    const room = this.#boxes.getBoundingClientRect();
    const taken = [];
    const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
    const buttons = [...this.#boxes.children];
    const isPressed = (button) => button.getAttribute("aria-pressed") === "true";
    const sides = buttons.map((button) => button.getBoundingClientRect());
    const sizes = this.#tags.map((tag) => [tag.offsetWidth, tag.offsetHeight]);
    const order = [...buttons.keys()].sort((a, b) => isPressed(buttons[b]) - isPressed(buttons[a]));
    for (const index of order) {
      const { left, top, width, height } = sides[index];
      const [wide, high] = sizes[index];
      buttons[index].classList.toggle("is-dot", width < DOT);
      buttons[index].classList.toggle("is-small", width >= DOT && width < CORNERS);
      const middle = left + width / 2 - wide / 2;
      const x = Math.min(Math.max(middle, room.left + GAP), Math.max(room.right - wide - GAP, room.left));
      const places = [top - high - GAP, top + height + GAP, top + GAP].filter(
        (y) => y >= room.top && y + high <= room.bottom,
      );
      const boxes = places.map((y) => ({ left: x, right: x + wide, top: y, bottom: y + high }));
      const others = [...taken, ...sides.filter((side) => side !== sides[index])];
      const found = boxes.find((a) => others.every((b) => apart(a, b)));
      if (found) taken.push(found);
      const box = found ?? boxes[0] ?? { left: x, top };
      const tag = this.#tags[index];
      tag.classList.toggle("is-crowded", !found);
      const { clientLeft, clientTop } = buttons[index];
      tag.style.left = `${box.left - left - clientLeft}px`;
      tag.style.top = `${box.top - top - clientTop}px`;
    }
  }

  #box(face, name, width, height) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "face";
    button.ariaLabel = name;
    Object.assign(button.style, {
      left: `${(100 * face.box.x) / width}%`,
      top: `${(100 * face.box.y) / height}%`,
      width: `${(100 * face.box.width) / width}%`,
      height: `${(100 * face.box.height) / height}%`,
    });
    const tag = document.createElement("span");
    tag.className = "tag";
    const label = document.createElement("span");
    label.dataset.testid = "face-label";
    label.textContent = labelled(face.label);
    tag.append(label, ` ${percent(face.score, 0)}${doubt(face) && " ?"}`);
    this.#tags.push(tag);
    button.append(tag);
    return button;
  }

  /** For pointers: the buttons in the photo are the same for all others. */
  #crop(face, index) {
    const button = document.createElement("button");
    button.type = "button";
    button.tabIndex = -1;
    button.title = `${labelled(face.label)} ${percent(face.score, 0)}`;
    const image = document.createElement("img");
    image.src = face.seen;
    image.alt = "";
    button.append(image);
    button.addEventListener("click", () => this.#take(index));
    return button;
  }
}

/** The faces in words: "17 neutral, 8 happy", the most frequent first. */
export function summary(faces) {
  const counts = new Map();
  for (const { label } of faces) counts.set(label, (counts.get(label) ?? 0) + 1);
  const most = [...counts].sort(([, a], [, b]) => b - a);
  return most.map(([label, count]) => t("js.faces.of_label", { count, label: labelled(label) })).join(", ");
}

/** A name for each face that says where it is. */
function namesOf(faces) {
  const places = placesOf(faces);
  const isOneRow = places.every(({ row }) => row === 1);
  return faces.map((face, index) => {
    const answer = `${labelled(face.label)} ${percent(face.score, 0)}${doubt(face) && " ?"}`;
    const told = { index: index + 1, count: faces.length, answer, ...places[index] };
    if (faces.length === 1) return t("js.faces.one", told);
    return isOneRow ? t("js.faces.in_row", told) : t("js.faces.in_rows", told);
  });
}

/** The row of each face, from the top, and its place in it, from the left. */
function placesOf(faces) {
  const middle = ({ box }) => box.y + box.height / 2;
  const rows = [];
  for (const face of [...faces].sort((a, b) => middle(a) - middle(b))) {
    const row = rows.at(-1);
    if (row && middle(face) - middle(row[0]) < 0.7 * row[0].box.height) row.push(face);
    else rows.push([face]);
  }
  for (const row of rows) row.sort((a, b) => a.box.x - b.box.x);
  return faces.map((face) => {
    const row = rows.findIndex((each) => each.includes(face));
    return { row: row + 1, place: rows[row].indexOf(face) + 1 };
  });
}
