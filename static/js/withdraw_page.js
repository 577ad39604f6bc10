/** The page on which a report is taken back later. */

import { failure, showProblem } from "./problem.js";
import { t } from "./texts.js";
import { withdraw } from "./withdraw.js";

const element = (id) => document.getElementById(id);
const form = element("withdraw");
const input = element("withdraw-code");
let isBusy = false;

takeCode();
addEventListener("hashchange", takeCode);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (isBusy) return;
  isBusy = true;
  const code = input.value.trim();
  element("withdraw-done").textContent = "";
  showProblem(element("error"), null);
  try {
    await withdraw(form.dataset.url, code);
    form.reset();
    element("withdraw-done").textContent = t("js.withdraw.done");
  } catch (cause) {
    showProblem(element("error"), failure(cause, t("js.withdraw.slow"), t("js.withdraw.unreachable")));
  } finally {
    isBusy = false;
  }
});

/** The code that the address brings, in the part of it that no server gets. */
function takeCode() {
  input.value ||= decodeURIComponent(location.hash.slice(1));
}
