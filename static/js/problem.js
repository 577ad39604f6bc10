/** What went wrong, for people. */

import { NoAnswer } from "./post.js";
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

/**
 * The Problem that `cause` is: `slow` or `unreachable`, and `isLost`, where no answer came (`isSlow`
 * in time). Else a fault of the page, which the console has too.
 */
export function failure(cause, slow, unreachable) {
  if (cause instanceof Problem) return cause;
  if (cause instanceof NoAnswer) {
    return Object.assign(new Problem(cause.slow ? slow : unreachable), { isLost: true, isSlow: cause.slow });
  }
  reportError(cause);
  return new Problem(t("js.problem.script"));
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
