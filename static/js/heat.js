/** Heat laid over a picture, where the network saw the parts that support a label. */

import { labelled, t } from "./texts.js";

const element = (id) => document.getElementById(id);

export class Heat {
  #image = element("heat");
  #key = element("heat-key");
  #choice = element("why-label");
  #isSquare;

  /** `ask()` hears that another label is to be explained. `isSquare`: the picture lies in a square. */
  constructor(ask, isSquare = false) {
    this.#isSquare = isSquare;
    this.#choice.addEventListener("change", ask);
  }

  /** The label to explain, "" for the best. */
  get label() {
    return this.#choice.value;
  }

  /** Offers to explain the best of `predictions`, or any other; keeps what was chosen. */
  offer(predictions) {
    const chosen = this.label;
    const options = predictions.map(({ label }, place) =>
      place
        ? new Option(t("js.heat.why_not", { label: labelled(label) }), label)
        : new Option(t("js.heat.why", { label: labelled(label) }), ""),
    );
    this.#choice.replaceChildren(...options);
    const is = options.some(({ value }) => value === chosen);
    this.#choice.value = is ? chosen : "";
    this.#choice.hidden = false;
  }

  /** Whether heat can be laid over the picture in which `subject` was found. */
  fits({ seen_at: place }) {
    return Boolean(place);
  }

  /** Lays `heat`, a picture, where `subject` lies in one of `width` × `height`. */
  show(heat, { seen_at: place, label }, width, height) {
    const side = Math.max(width, height);
    const [wide, high] = this.#isSquare ? [side, side] : [width, height];
    const [x, y] = [place.x + (wide - width) / 2, place.y + (high - height) / 2];
    Object.assign(this.#image.style, {
      left: `${(100 * x) / wide}%`,
      top: `${(100 * y) / high}%`,
      width: `${(100 * place.width) / wide}%`,
      height: `${(100 * place.height) / high}%`,
      rotate: `${place.angle}deg`,
    });
    this.#image.src = heat;
    this.#image.alt = t("js.answer.why", { label: labelled(this.label || label) });
    this.#image.hidden = this.#key.hidden = false;
  }

  /** Takes the heat away; what may be chosen stays. */
  clear() {
    this.#image.hidden = this.#key.hidden = true;
    this.#image.removeAttribute("src");
  }

  /** Takes the heat away, and what may be chosen. */
  reset() {
    this.clear();
    this.#choice.replaceChildren();
    this.#choice.hidden = true;
  }
}
