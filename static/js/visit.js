/** The answers of this visit, with small pictures of the drawings: in this page alone. */

import { offerCopies } from "./results.js";
import { thumbnail } from "./samples.js";
import { percent } from "./score.js";
import { t } from "./texts.js";

const MOST = 100; // answers; the oldest go

export class Visit {
  #root;
  #list;
  #entries = []; // the newest last
  #current = null; // the entry of the drawing on the pad
  #count = 0;

  /** `root` holds the list and its buttons; `say` tells a screen reader. */
  constructor(root, say) {
    this.#root = root;
    this.#list = root.querySelector("ol");
    const labels = JSON.parse(root.dataset.labels);
    offerCopies(root, () => ({ entries: this.#entries, labels }), say);
    root.querySelector("#forget").addEventListener("click", () => {
      this.#entries = [];
      this.#current = null;
      this.#list.replaceChildren();
      this.#show();
      say(t("js.visit.forgotten"));
    });
    this.#show();
  }

  /** The next answer is that to another drawing. */
  next() {
    this.#current = null;
  }

  /** Notes the answer to the drawing of `strokes`, or to an opened picture, in place of its last. */
  note(result, strokes) {
    if (!this.#current) {
      this.#count += 1;
      this.#current = { name: t("js.visit.drawing", { number: this.#count }), item: document.createElement("li") };
      this.#entries.push(this.#current);
      this.#list.prepend(this.#current.item);
      if (this.#entries.length > MOST) this.#entries.shift().item.remove();
    }
    const { seen, label, score, verdict } = result;
    this.#current.result = result;
    const answer = document.createElement("b");
    answer.textContent = label;
    const share = document.createElement("span");
    share.textContent = percent(score);
    this.#current.item.className = `is-${verdict}`;
    this.#current.item.replaceChildren(strokes.length ? thumbnail(strokes) : pictureOf(seen), answer, share);
    this.#show();
  }

  #show() {
    const count = this.#entries.length;
    this.#root.querySelector("#visited").textContent = t("js.visit.count", { count });
    for (const button of this.#root.querySelectorAll("button")) button.disabled = !count;
  }
}

function pictureOf(seen) {
  const image = document.createElement("img");
  image.src = seen;
  image.alt = "";
  return image;
}
