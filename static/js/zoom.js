/** A picture that is zoomed with two fingers, the wheel, a double click, + and -, or buttons. */

const MOST = 8;
const STEP = 1.5; // of a key
const TWICE = 2.5; // of a double click
const SLACK = 5; // pixels that a finger may move in a tap

export class Zoom {
  #view;
  #inner;
  #changed;
  #scale = 1;
  #left = 0; // where the inner element begins, in pixels of the view
  #top = 0;
  #pointers = new Map();
  #isMoved = false;
  #buttons;

  /**
   * `inner` fills `view` at first; `changed()` hears when it is larger or smaller. `buttons` have a
   * data-zoom: in, out or whole.
   */
  constructor(view, inner, buttons, changed) {
    this.#buttons = [...buttons];
    this.#view = view;
    this.#inner = inner;
    this.#changed = changed;
    view.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    view.addEventListener("pointerdown", (event) => this.#onDown(event));
    view.addEventListener("pointermove", (event) => this.#onMove(event));
    for (const type of ["pointerup", "pointercancel"]) {
      view.addEventListener(type, ({ pointerId }) => this.#pointers.delete(pointerId));
    }
    view.addEventListener("click", (event) => this.#onClick(event), { capture: true });
    view.addEventListener("dblclick", ({ clientX, clientY }) => {
      this.#by(this.#scale > 1 ? 1 / this.#scale : TWICE, clientX, clientY);
    });
    view.addEventListener("keydown", (event) => this.#onKey(event));
    view.addEventListener("dragstart", (event) => event.preventDefault());
    for (const button of this.#buttons) {
      button.addEventListener("click", () => this.#press(button.dataset.zoom));
    }
  }

  /** Shows the whole picture. */
  reset() {
    this.#scale = 1;
    this.#pointers.clear();
    this.#place();
  }

  /** Brings what lies at [x, y], in shares of the picture, to the middle, where it is zoomed. */
  centre(x, y) {
    if (this.#scale === 1) return;
    const { width, height } = this.#view.getBoundingClientRect();
    this.#left = width / 2 - x * width * this.#scale;
    this.#top = height / 2 - y * height * this.#scale;
    this.#place();
  }

  #onWheel(event) {
    // The wheel scrolls the page until the picture is taken hold of.
    const isHeld = this.#scale > 1 || this.#view.contains(document.activeElement);
    if (!event.ctrlKey && !isHeld) return;
    event.preventDefault();
    this.#by(Math.exp(-event.deltaY / (event.ctrlKey ? 100 : 400)), event.clientX, event.clientY);
  }

  #onKey(event) {
    const factor = { "+": STEP, "=": STEP, "-": 1 / STEP, 0: 1 / this.#scale }[event.key];
    if (!factor || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const box = document.activeElement.getBoundingClientRect();
    this.#by(factor, box.left + box.width / 2, box.top + box.height / 2);
  }

  #press(way) {
    const { left, top, width, height } = this.#view.getBoundingClientRect();
    const factor = { in: STEP, out: 1 / STEP, whole: 1 / this.#scale }[way];
    this.#by(factor, left + width / 2, top + height / 2);
  }

  #onDown(event) {
    if (event.button !== 0) return;
    if (!this.#pointers.size) this.#isMoved = false;
    this.#pointers.set(event.pointerId, [event.clientX, event.clientY]);
  }

  #onMove({ pointerId, clientX, clientY }) {
    const before = this.#pointers.get(pointerId);
    if (!before) return;
    const other = [...this.#pointers].find(([id]) => id !== pointerId)?.[1];
    if (!other && this.#scale === 1) return;
    const moved = Math.hypot(clientX - before[0], clientY - before[1]);
    if (!this.#isMoved && moved < SLACK) return;
    if (!this.#isMoved) this.#view.setPointerCapture(pointerId);
    this.#isMoved = true;
    this.#pointers.set(pointerId, [clientX, clientY]);
    const share = other ? 0.5 : 1; // of two fingers each moves the middle half as far
    this.#left += share * (clientX - before[0]);
    this.#top += share * (clientY - before[1]);
    const spread = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
    if (other) {
      const factor = spread([clientX, clientY]) / Math.max(spread(before), 1);
      this.#by(factor, (clientX + other[0]) / 2, (clientY + other[1]) / 2);
    } else {
      this.#place();
    }
  }

  #onClick(event) {
    if (!this.#isMoved) return;
    this.#isMoved = false;
    event.stopPropagation(); // a face under a finger that moved is not meant
    event.preventDefault();
  }

  /** Zooms by `factor` about a point of the window. */
  #by(factor, clientX, clientY) {
    const { left, top } = this.#view.getBoundingClientRect();
    const scale = Math.min(Math.max(this.#scale * factor, 1), MOST);
    const [x, y] = [clientX - left, clientY - top];
    this.#left = x - ((x - this.#left) * scale) / this.#scale;
    this.#top = y - ((y - this.#top) * scale) / this.#scale;
    this.#scale = scale;
    this.#place();
  }

  #place() {
    const { clientWidth: width, clientHeight: height } = this.#view;
    const isWhole = this.#scale === 1;
    this.#view.classList.toggle("is-zoomed", !isWhole);
    // Not disabled, which would take the focus away.
    for (const each of this.#buttons) {
      each.ariaDisabled = String(each.dataset.zoom === "in" ? this.#scale === MOST : isWhole);
    }
    this.#left = Math.min(Math.max(this.#left, width * (1 - this.#scale)), 0);
    this.#top = Math.min(Math.max(this.#top, height * (1 - this.#scale)), 0);
    this.#view.style.inlineSize = isWhole ? "" : `${width}px`;
    this.#view.style.blockSize = isWhole ? "" : `${height}px`;
    const style = { width: `${width * this.#scale}px`, left: `${this.#left}px`, top: `${this.#top}px` };
    for (const [name, value] of Object.entries(style)) this.#inner.style[name] = isWhole ? "" : value;
    this.#changed();
  }
}
