/** What went wrong, for people. */

import { named, t } from "./texts.js";

/** A sentence in the page's language, and in `said` what the server said, where that is another. */
export class Problem extends Error {
  constructor(sentence, said = "") {
    super(sentence);
    this.said = said;
  }
}

/**
 * The problem that `answer` tells of (RFC 9457), or `otherwise` where it is null. Its detail is
 * English; the page's own sentence for its type goes before, which is empty in English.
 */
export function problemOf(answer, otherwise) {
  if (!answer?.detail) return new Problem(otherwise);
  const sentence = named("problem", String(answer.type).split(":").at(-1)) ?? t("problem.other");
  return sentence ? new Problem(sentence, answer.detail) : new Problem(answer.detail);
}

/** Shows `problem`, or that there is none, in `element`. */
export function showProblem(element, problem) {
  element.textContent = problem?.message ?? "";
  element.hidden = !problem;
  if (!problem?.said) return;
  const said = document.createElement("span");
  said.className = "original";
  said.lang = "en";
  said.textContent = problem.said;
  element.append(" ", said);
}
