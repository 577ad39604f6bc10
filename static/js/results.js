/** Answers to copy, as CSV or JSON. */

import { copyText } from "./clipboard.js";
import { csv } from "./csv.js";
import { t } from "./texts.js";

const SHOWN = 2000; // ms for which a button says that it has copied
const PICTURES = ["seen", "explanation", "heat"]; // which are left out

/**
 * Has the buttons of `group` copy what `give()` gives: entries of {name, result}, with the model's
 * `labels`. `say` tells a screen reader.
 */
export function offerCopies(group, give, say) {
  const forms = {
    csv: ({ entries, labels }) => csv(entries, labels),
    json: ({ entries }) => JSON.stringify(entries.map(plain), withoutPictures, 2),
  };
  for (const button of group.querySelectorAll("[data-form]")) {
    const { textContent } = button;
    button.addEventListener("click", async () => {
      const isCopied = await copyText(forms[button.dataset.form](give()));
      const told = isCopied ? t("js.results.copied") : t("js.results.blocked");
      button.textContent = told;
      say(told);
      setTimeout(() => (button.textContent = textContent), SHOWN);
    });
  }
}

function plain({ name, result }) {
  return { ...result, filename: name };
}

function withoutPictures(key, value) {
  return PICTURES.includes(key) ? undefined : value;
}
