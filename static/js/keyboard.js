/** Draws on a pad with the keyboard: arrows move a visible pen, Space or Enter uses it. */

import { t } from "./texts.js";

const STEP = 0.05; // of the pad's side, for a press of an arrow key
const FINE = 0.0125; // the same with Shift
const ARROWS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

export class KeyboardPen {
  #pad;
  #marker; // the element that shows where the pen is
  #say;
  #held = new Set(); // two arrows held together draw a slant
  #position = [0.5, 0.25];
  #down = false;

  /** `say(text)` tells a screen reader what the pen does. */
  constructor(pad, canvas, marker, say) {
    this.#pad = pad;
    this.#marker = marker;
    this.#say = say;
    canvas.addEventListener("keydown", (event) => this.#onKey(event));
    canvas.addEventListener("keyup", (event) => this.#held.delete(event.key));
    canvas.addEventListener("focus", () => this.#show(canvas.matches(":focus-visible")));
    canvas.addEventListener("blur", () => this.#rest());
    // Before the pad hears of it: lifting this pen must not end the stroke that begins here.
    canvas.addEventListener("pointerdown", () => this.#rest(), { capture: true });
  }

  /** Lifts the pen, as when the drawing under it was taken away. */
  lift() {
    if (this.#down) this.#pad.end();
    this.#down = false;
    this.#place();
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in ARROWS) {
      this.#held.add(event.key);
      this.#move(event.shiftKey ? FINE : STEP);
    } else if (event.key === " " || event.key === "Enter") {
      if (!event.repeat) this.#toggle();
    } else {
      return;
    }
    event.preventDefault(); // no scrolling
    this.#show(true);
  }

  #move(step) {
    for (const key of this.#held) {
      ARROWS[key].forEach((direction, axis) => {
        this.#position[axis] = Math.min(Math.max(this.#position[axis] + direction * step, 0), 1);
      });
    }
    if (this.#down) this.#pad.extend([...this.#position]);
  }

  #toggle() {
    if (this.#down) {
      this.lift();
      this.#say(t("js.keyboard.up"));
    } else {
      this.#down = true;
      this.#pad.begin([...this.#position]);
      this.#say(t("js.keyboard.down"));
    }
  }

  #rest() {
    this.#held.clear();
    this.lift();
    this.#show(false);
  }

  #show(visible) {
    this.#marker.hidden = !visible;
    this.#place();
  }

  #place() {
    const [x, y] = this.#position;
    this.#marker.style.left = `${x * 100}%`;
    this.#marker.style.top = `${y * 100}%`;
    this.#marker.classList.toggle("is-down", this.#down);
  }
}
