/** A square of paper to draw on with mouse, finger or pen, and by method calls. */

import { encoded } from "./encode.js";
import { Problem } from "./problem.js";
import { t } from "./texts.js";

const PEN = 0.05; // the pen's width, of the pad's side
const CORNER = 0.02; // how near a sharp turn a line is bent, of the pad's side
const NEAREST = 0.002; // points nearer to the last than this add nothing
const PALM = 1500; // ms after a pen's last sign in which a touch is a palm
const SENT = 280; // the side of the picture that is sent, pixels

/**
 * Holds strokes as lists of [x, y] in units of the pad's side, so that the drawing outlives a
 * resize and what is sent depends on neither the screen nor the theme.
 * Dispatches "change" whenever the drawing differs from before.
 */
export class Pad extends EventTarget {
  #canvas;
  #strokes = [];
  #past = []; // the drawings that undo goes back through
  #current = null; // the stroke under the pen
  #pointer = null; // the id of the pointer that draws it
  #layer = new Layer(); // the finished strokes, as they are shown
  #sentLayer = new Layer(); // the same as they are sent
  #kind = ""; // the type of that pointer
  #penUntil = 0; // until when what touches is a palm beside the pen
  #frame = 0;

  constructor(canvas) {
    super();
    this.#canvas = canvas;
    canvas.addEventListener("pointerdown", (event) => this.#onDown(event));
    canvas.addEventListener("pointermove", (event) => this.#onMove(event));
    for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(type, (event) => {
        if (event.pointerId === this.#pointer) this.end();
      });
    }
    // What is selected would be dragged away instead, and take the pointer with it.
    for (const type of ["dragstart", "selectstart"]) {
      canvas.addEventListener(type, (event) => event.preventDefault());
    }
    canvas.addEventListener("contextmenu", (event) => {
      if (this.#current) event.preventDefault(); // a long press is a stroke, not a menu
    });
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.#watchDensity();
    for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
      matchMedia(query).addEventListener("change", () => this.#redraw());
    }
  }

  get empty() {
    return this.#strokes.length === 0;
  }

  /** The drawing: lists of [x, y]. */
  get strokes() {
    return this.#strokes;
  }

  /** Puts other strokes in the drawing's place. */
  replace(strokes) {
    this.end();
    this.#replace(strokes);
  }

  begin(point) {
    this.end();
    this.#current = [point];
    this.#replace([...this.#strokes, this.#current]);
  }

  extend(point) {
    const last = this.#current.at(-1);
    if (Math.hypot(point[0] - last[0], point[1] - last[1]) < NEAREST) return;
    this.#current.push(point);
    this.#changed();
  }

  end() {
    this.#current = null;
    this.#pointer = null;
  }

  /** Takes back the last stroke, or the last clearing; returns whether there was any. */
  undo() {
    this.end();
    return this.#takeBack();
  }

  #takeBack() {
    const before = this.#past.pop();
    if (!before) return false;
    this.#strokes = before;
    this.#changed();
    return true;
  }

  /** Empties the pad; returns whether there was anything on it. */
  clear() {
    this.end();
    if (this.empty) return false;
    this.#replace([]);
    return true;
  }

  /** The drawing as a PNG, black on white; throws a Problem where the browser withholds it. */
  picture() {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SENT;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff";
    context.fillRect(0, 0, SENT, SENT);
    this.#paint(context, "#000", this.#sentLayer);
    let file = null;
    try {
      if (this.#isAsDrawn(context)) file = encoded(canvas, "image/png");
    } catch {
      // Some protections against fingerprinting throw.
    }
    if (!file) throw new Problem(t("js.pad.unreadable"));
    return file;
  }

  /** Whether ink is read where there is some: others give white, or noise. */
  #isAsDrawn(context) {
    const points = this.#strokes.flat().filter((point) => Math.min(...point) > 0 && Math.max(...point) < 1);
    const some = points.filter((_, index) => index % Math.ceil(points.length / 16) === 0);
    return some.every(([x, y]) => context.getImageData(x * SENT, y * SENT, 1, 1).data[0] < 128);
  }

  #replace(strokes) {
    this.#past.push(this.#strokes);
    this.#strokes = strokes;
    this.#changed();
  }

  #changed() {
    this.#redraw();
    this.dispatchEvent(new Event("change"));
  }

  #onDown(event) {
    const isPen = event.pointerType === "pen";
    const isPalm = event.pointerType === "touch" && event.timeStamp < this.#penUntil;
    if (event.button !== 0 || isPalm) return;
    // A second finger does not draw; a pen does, in the place of the palm that came before it.
    if (this.#pointer !== null) {
      if (!isPen || this.#kind !== "touch") return;
      this.#takeBack();
    }
    getSelection()?.removeAllRanges();
    this.#canvas.setPointerCapture(event.pointerId);
    this.begin(this.#point(event));
    this.#pointer = event.pointerId;
    this.#kind = event.pointerType;
    this.#notePen(event);
  }

  #notePen({ pointerType, timeStamp }) {
    if (pointerType === "pen") this.#penUntil = timeStamp + PALM;
  }

  #onMove(event) {
    this.#notePen(event);
    if (event.pointerId !== this.#pointer) return;
    // Browsers lack it on plain HTTP, as when a phone draws on a laptop's server.
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.extend(this.#point(each));
  }

  #point(event) {
    // Of the box that is seen, which CSS may have zoomed.
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    const { clientLeft, clientTop, clientWidth, clientHeight } = this.#canvas;
    const { offsetWidth, offsetHeight } = this.#canvas;
    return [
      (((event.clientX - left) / width) * offsetWidth - clientLeft) / clientWidth,
      (((event.clientY - top) / height) * offsetHeight - clientTop) / clientHeight,
    ];
  }

  #watchDensity() {
    const query = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    const listener = () => {
      this.#resize();
      this.#watchDensity();
    };
    query.addEventListener("change", listener, { once: true });
  }

  #resize() {
    const side = Math.round(this.#canvas.clientWidth * devicePixelRatio);
    if (this.#canvas.width === side) return;
    this.#canvas.width = this.#canvas.height = side;
    // Setting the size wipes the canvas: fill it before the next frame is shown.
    this.#show();
  }

  #redraw() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      const context = this.#canvas.getContext("2d");
      context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
      this.#show();
    });
  }

  #show() {
    this.#paint(this.#canvas.getContext("2d"), getComputedStyle(this.#canvas).color, this.#layer);
  }

  #paint(context, colour, layer) {
    const side = context.canvas.width;
    if (!side) return;
    const finished = this.#strokes.filter((stroke) => stroke !== this.#current);
    context.drawImage(layer.with(finished, side, colour), 0, 0);
    if (this.#current) paint(context, [this.#current], colour);
  }
}

/** Strokes on a canvas of their own: a frame draws those alone that are new. */
class Layer {
  #canvas = document.createElement("canvas");
  #drawn = [];
  #look = "";

  /** A canvas of `side` pixels with `strokes` in `colour`. */
  with(strokes, side, colour) {
    const look = `${side} ${colour}`;
    if (look !== this.#look || this.#drawn.some((stroke, index) => stroke !== strokes[index])) {
      this.#canvas.width = this.#canvas.height = side;
      this.#look = look;
      this.#drawn = [];
    }
    paint(this.#canvas.getContext("2d"), strokes.slice(this.#drawn.length), colour);
    this.#drawn = [...strokes];
    return this.#canvas;
  }
}

/** Draws `strokes` as wide as the pad's pen. */
export function paint(context, strokes, colour) {
  const side = context.canvas.width;
  context.strokeStyle = colour;
  context.lineWidth = PEN * side;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    trace(
      context,
      stroke.map(([x, y]) => [x * side, y * side]),
      CORNER * side,
    );
    context.stroke();
  }
}

/**
 * Adds a smooth line along `points` to the path. A gentle turn is bent from the middle of one
 * segment to the middle of the next, a sharp one only within `corner`, or a quick hand's seven
 * would become a bow.
 */
function trace(context, points, corner) {
  const [x, y] = points[0];
  context.moveTo(x, y);
  for (let i = 1; i < points.length - 1; i += 1) {
    const [before, here, after] = points.slice(i - 1, i + 2);
    const reach = isGentle(before, here, after) ? Infinity : corner;
    context.lineTo(...towards(here, before, reach));
    context.quadraticCurveTo(...here, ...towards(here, after, reach));
  }
  if (points.length > 1) context.lineTo(...points.at(-1));
  else context.lineTo(x + 0.01, y); // a line of no length would leave no dot
}

/** Whether the way by `here` turns by less than 60°. */
function isGentle(before, here, after) {
  const [ax, ay] = [here[0] - before[0], here[1] - before[1]];
  const [bx, by] = [after[0] - here[0], after[1] - here[1]];
  return ax * bx + ay * by > 0.5 * Math.hypot(ax, ay) * Math.hypot(bx, by);
}

/** The point `distance` from `from` on the way to `to`, at most half-way. */
function towards(from, to, distance) {
  const length = Math.hypot(to[0] - from[0], to[1] - from[1]);
  const part = Math.min(0.5, distance / length);
  return [from[0] + (to[0] - from[0]) * part, from[1] + (to[1] - from[1]) * part];
}
