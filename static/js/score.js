/** Scores as people read them. */

import { labelled, number, t } from "./texts.js";

export function percent(score, digits = 1) {
  return `${number(100 * score, digits)} %`;
}

/** What an answer that is not sure hesitates between, in words; "" of one that is sure. */
export function doubt({ verdict, predictions: [best, next] }, isFace = false) {
  if (verdict === "none") {
    const names = { label: labelled(best.label) };
    return isFace ? t("js.score.no_face", names) : t("js.score.none", names);
  }
  if (verdict === "sure" || !next) return "";
  return t("js.score.unsure", { first: labelled(best.label), second: labelled(next.label) });
}
