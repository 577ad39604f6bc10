/** Scores as people read them. */

export function percent(score) {
  return `${(score * 100).toFixed(1)} %`;
}
