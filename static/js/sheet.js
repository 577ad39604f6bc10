/** A picture laid over the pad: dropped, pasted or opened instead of drawn. */

import { whenDropped, whenPicturePasted } from "./transfer.js";

/** Dispatches "picture" with the file as `detail` when one is laid there. */
export class Sheet extends EventTarget {
  #image;

  /** `image` lies over the pad in `paper`; `input` opens a file; `refuse` hears a Problem. */
  constructor(image, paper, input, refuse) {
    super();
    this.#image = image;
    input.addEventListener("change", () => {
      this.lay(input.files[0]);
      input.value = ""; // the same file can be opened again
    });
    whenDropped(paper, document, ({ files: [file] }) => this.lay(file), refuse);
    whenPicturePasted((file) => this.lay(file));
  }

  get empty() {
    return this.#image.hidden;
  }

  /** Takes the picture away; returns whether there was one. */
  clear() {
    if (this.empty) return false;
    this.#image.hidden = true;
    URL.revokeObjectURL(this.#image.src);
    this.#image.removeAttribute("src");
    return true;
  }

  /** Lays the picture in `file` over the pad. */
  lay(file) {
    if (!file) return;
    this.clear();
    this.#image.src = URL.createObjectURL(file);
    this.#image.hidden = false;
    this.dispatchEvent(new CustomEvent("picture", { detail: file }));
  }
}
