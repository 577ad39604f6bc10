/** A layer of a network: its maps in a grid, and what one of them is made by and excited by. */

import { Problem } from "./problem.js";
import { t } from "./texts.js";

const GAP = 2; // pixels of the page between maps
const LEAST = 38; // pixels of a map's side, for a finger
const MOST_COLUMNS = 16;
const WEIGHTS = 8; // pixels of a weight in the picture of a filter
const SEEN = 8; // pixels of one of the network's pixels, where a part is marked
const GROUND = "#0d1110";
const MARK = "#ff8a3d";
// From nothing to the layer's highest value.
const COLOURS = Array.from({ length: 256 }, (_, value) => colour((value / 255) ** 0.7));

function colour(share) {
  const stops = [
    [13, 17, 16],
    [11, 112, 97],
    [111, 214, 189],
    [255, 247, 220],
  ];
  const at = Math.min(share * 3, 2.999);
  const [from, to] = stops.slice(Math.floor(at), Math.floor(at) + 2);
  return from.map((channel, index) => channel + (to[index] - channel) * (at % 1));
}

export class Layer {
  #root;
  #url;
  #fail;
  #canvas;
  #chooser;
  #channels;
  #size;
  #maps = null; // of the picture, a canvas with all maps in colour
  #values = null; // the same as numbers 0..255: of each map a row-wise list
  #seen = null;
  #chosen = null;
  #kernels = null;

  /** `url` and a map's number is the address of its filter; `fail` hears a Problem. */
  constructor(root, url, fail) {
    this.#root = root;
    this.#url = url;
    this.#fail = fail;
    this.#canvas = root.querySelector(".maps");
    this.#chooser = root.querySelector(".chooser");
    const { channels, width, height } = root.dataset;
    this.#channels = Number(channels);
    this.#size = [Number(width), Number(height)];
    this.#canvas.addEventListener("click", (event) => this.#onClick(event));
    this.#chooser.addEventListener("input", () => this.#choose(Number(this.#chooser.value) - 1));
    this.#tell();
    new ResizeObserver(() => this.draw()).observe(root);
  }

  /** Shows the maps in `sheet`, an image of them side by side in a square, or that there are none. */
  show(sheet, seen) {
    this.#seen = seen;
    this.#read(sheet);
    this.draw();
    this.#showDetail();
  }

  /** Draws the grid for the place that it has. */
  draw() {
    const room = this.#root.clientWidth;
    const { columns, side } = this.#grid(room);
    const rows = Math.ceil(this.#channels / columns);
    const height = rows * side + (rows - 1) * GAP;
    const scale = devicePixelRatio;
    this.#canvas.width = Math.round(room * scale);
    this.#canvas.height = Math.round(height * scale);
    this.#canvas.style.aspectRatio = `${room} / ${height}`;
    const pen = this.#canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.imageSmoothingEnabled = false;
    for (let index = 0; index < this.#channels; index += 1) {
      const [x, y] = [(index % columns) * (side + GAP), Math.floor(index / columns) * (side + GAP)];
      pen.fillStyle = GROUND;
      pen.fillRect(x, y, side, side);
      if (this.#maps) pen.drawImage(this.#maps, ...this.#place(index), ...this.#size, x, y, side, side);
      if (index !== this.#chosen) continue;
      pen.strokeStyle = MARK;
      pen.lineWidth = 3;
      pen.strokeRect(x + 1.5, y + 1.5, side - 3, side - 3);
    }
  }

  #grid(room) {
    const most = Math.min(MOST_COLUMNS, this.#channels);
    const fitting = Math.max(1, Math.floor((room + GAP) / (LEAST + GAP)));
    const columns = fitting >= most ? most : 2 ** Math.floor(Math.log2(fitting));
    return { columns, side: (room - (columns - 1) * GAP) / columns };
  }

  /** Where a map begins in the sheet. */
  #place(index) {
    const wide = Math.ceil(Math.sqrt(this.#channels));
    return [(index % wide) * this.#size[0], Math.floor(index / wide) * this.#size[1]];
  }

  /** Takes the maps out of the sheet, and gives them colours. */
  #read(sheet) {
    this.#maps = null;
    this.#values = null;
    if (!sheet) return;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [sheet.naturalWidth, sheet.naturalHeight];
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(sheet, 0, 0);
    const pixels = pen.getImageData(0, 0, canvas.width, canvas.height);
    const grey = new Uint8Array(pixels.data.length / 4);
    for (let at = 0; at < grey.length; at += 1) {
      grey[at] = pixels.data[4 * at];
      pixels.data.set(COLOURS[grey[at]], 4 * at);
    }
    pen.putImageData(pixels, 0, 0);
    this.#maps = canvas;
    this.#values = { grey, wide: canvas.width };
  }

  #onClick({ clientX, clientY }) {
    const box = this.#canvas.getBoundingClientRect();
    const { columns, side } = this.#grid(box.width);
    const column = Math.min(Math.floor((clientX - box.left) / (side + GAP)), columns - 1);
    const index = Math.floor((clientY - box.top) / (side + GAP)) * columns + column;
    if (index < 0 || index >= this.#channels) return;
    this.#chooser.value = index + 1;
    this.#choose(index);
  }

  async #choose(index) {
    this.#chosen = index;
    this.#kernels = null;
    this.draw();
    this.#showDetail();
    try {
      const response = await fetch(`${this.#url}/${index}`);
      if (!response.ok) throw new TypeError(response.statusText);
      const { kernels } = await response.json();
      if (index !== this.#chosen) return;
      this.#kernels = kernels;
      this.#drawFilter();
    } catch {
      this.#fail(new Problem(t("js.inside.lost")));
    }
  }

  /** The highest value of the map that is chosen, and where it is. */
  #strongest() {
    const [width, height] = this.#size;
    const [left, top] = this.#place(this.#chosen ?? 0);
    let [highest, column, row] = [0, 0, 0];
    for (let y = 0; this.#values && y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        const value = this.#values.grey[(top + y) * this.#values.wide + left + x];
        if (value > highest) [highest, column, row] = [value, x, y];
      }
    }
    return { highest, column, row };
  }

  #tell() {
    const { highest, column, row } = this.#strongest();
    const told = { number: Number(this.#chooser.value), count: this.#channels };
    const text = highest
      ? t("js.inside.chosen", { ...told, column: column + 1, row: row + 1 })
      : t("js.inside.quiet", told);
    this.#chooser.setAttribute("aria-valuetext", text);
    this.#root.querySelector(".told").textContent = text.charAt(0).toUpperCase() + text.slice(1);
  }

  #showDetail() {
    this.#tell();
    if (this.#chosen === null) return;
    this.#root.querySelector(".detail").hidden = false;
    const map = this.#pen(".map", ...this.#size);
    if (this.#maps) map.drawImage(this.#maps, ...this.#place(this.#chosen), ...this.#size, 0, 0, ...this.#size);
    this.#drawWhere();
    this.#drawFilter();
  }

  /** Marks the part of the picture that excites the map most. */
  #drawWhere() {
    const { naturalWidth = 28, naturalHeight = 28 } = this.#seen ?? {};
    const pen = this.#pen(".where", naturalWidth * SEEN, naturalHeight * SEEN);
    if (!this.#seen) return;
    pen.imageSmoothingEnabled = false;
    pen.drawImage(this.#seen, 0, 0, pen.canvas.width, pen.canvas.height);
    const { highest, column, row } = this.#strongest();
    if (!highest) return;
    const [reach, step, start] = ["reach", "step", "start"].map((name) => Number(this.#root.dataset[name]));
    const from = (place) => (start + place * step - (reach - 1) / 2) * SEEN;
    pen.strokeStyle = MARK;
    pen.lineWidth = SEEN / 2;
    const edge = pen.lineWidth / 2;
    const [left, top] = [Math.max(from(column), 0) + edge, Math.max(from(row), 0) + edge];
    const right = Math.min(from(column) + reach * SEEN, pen.canvas.width) - edge;
    const bottom = Math.min(from(row) + reach * SEEN, pen.canvas.height) - edge;
    pen.strokeRect(left, top, right - left, bottom - top);
  }

  /** The kernels of the filter, one for each map of the layer before. */
  #drawFilter() {
    const kernels = this.#kernels ?? [[[0]]];
    const [height, width] = [kernels[0].length, kernels[0][0].length];
    const columns = Math.min(kernels.length, MOST_COLUMNS);
    const rows = Math.ceil(kernels.length / columns);
    const [wide, high] = [width * WEIGHTS + GAP, height * WEIGHTS + GAP];
    const pen = this.#pen(".filter", columns * wide - GAP, rows * high - GAP);
    pen.canvas.style.maxInlineSize = kernels.length > 1 ? "" : "9rem";
    const most = Math.max(...kernels.flat(2).map(Math.abs), 1e-6);
    for (const [index, kernel] of kernels.entries()) {
      const [left, top] = [(index % columns) * wide, Math.floor(index / columns) * high];
      for (const [y, line] of kernel.entries()) {
        for (const [x, weight] of line.entries()) {
          const share = Math.round(100 * Math.sqrt(Math.abs(weight) / most));
          pen.fillStyle = `color-mix(in srgb, ${weight > 0 ? "#f08a3c" : "#4a86e8"} ${share}%, #15191a)`;
          pen.fillRect(left + x * WEIGHTS, top + y * WEIGHTS, WEIGHTS, WEIGHTS);
        }
      }
    }
  }

  /** The pen of an emptied canvas of the detail. */
  #pen(selector, width, height) {
    const canvas = this.#root.querySelector(selector);
    [canvas.width, canvas.height] = [width, height];
    return canvas.getContext("2d");
  }
}
