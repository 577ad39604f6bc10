/** Answers as CSV (RFC 4180), with the columns and rows of `python -m app predict --csv`. */

const FORMULA = /^[=+\-@\t\r]/; // what a spreadsheet would calculate

/** A row for each digit or face of `entries`, or for a problem; `labels` in the model's order. */
export function csv(entries, labels) {
  const head = ["file", "error", "x", "y", "width", "height", "label", "score", "verdict", ...labels];
  const rows = entries.flatMap(({ name, error, result }) => {
    // What the server said, whatever the page's language.
    if (error) return [[name, error.said || error.message, ...Array(head.length - 2).fill("")]];
    return (result.faces ?? result.subjects).map((subject) => row(name, subject, labels));
  });
  return [head, ...rows].map((cells) => `${cells.map(cell).join(",")}\r\n`).join("");
}

function row(name, { box, label, score, verdict, predictions }, labels) {
  const scores = Object.fromEntries(predictions.map((each) => [each.label, each.score]));
  const { x, y, width, height } = box;
  const answer = [name, "", x, y, width, height, label, score, verdict];
  return [...answer, ...labels.map((each) => scores[each])];
}

function cell(value) {
  const text = typeof value === "string" && FORMULA.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
