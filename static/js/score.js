/** Scores as people read them. */

const SURE = 0.8; // a score below it is said to be unsure

export function percent(score) {
  return `${(score * 100).toFixed(1)} %`;
}

/** What an answer that is not sure hesitates between, in words; "" of one that is sure. */
export function doubt([best, next]) {
  return best.score >= SURE || !next ? "" : `not sure: ${best.label} or ${next.label}`;
}
