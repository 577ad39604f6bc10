/** Buttons that copy the snippet that they name, and say so. */

import { t } from "./texts.js";

const SHOWN = 2000; // ms for which a button says that it has copied
const live = document.querySelector("#live");

/** Copies by the old way, which also works where the page came without TLS; false where not. */
function copySelected(code) {
  getSelection().selectAllChildren(code);
  return document.execCommand("copy");
}

async function copy(button) {
  const code = document.getElementById(button.dataset.copy);
  let copied;
  try {
    await navigator.clipboard.writeText(code.textContent);
    copied = true;
  } catch {
    copied = copySelected(code);
  }
  button.textContent = copied ? t("js.copy.copied") : t("js.copy.press");
  live.textContent = copied ? t("js.copy.said") : t("js.copy.selected");
  clearTimeout(button.timer);
  button.timer = setTimeout(() => {
    button.textContent = t("js.copy.copy");
    live.textContent = "";
  }, SHOWN);
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}
