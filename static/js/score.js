/** Scores as people read them. */

import { labelled, number, t } from "./texts.js";

export function percent(score, digits = 1) {
  return `${number(100 * score, digits)} %`;
}

/** What an answer that is not sure hesitates between, in words; "" of one that is sure. */
export function doubt({ verdict, predictions: [best, next] }, isFace = false) {
  const none = isFace ? "js.score.no_face" : "js.score.none";
  if (verdict === "none") return t(none, { label: labelled(best.label) });
  if (verdict === "sure" || !next) return "";
  return t("js.score.unsure", { first: labelled(best.label), second: labelled(next.label) });
}
