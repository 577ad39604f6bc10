/** JSON for people. The page's examples are laid out in the same way by `pretty` in app/pages.py. */

import { t } from "./texts.js";

const WIDTH = 76; // characters of a line
const [LONG_TEXT, MANY_NUMBERS, SHOWN] = [100, 32, 8];

/** JSON with on one line what fits there; base64 and long lists of numbers are cut short. */
export function pretty(value, indent = "") {
  if (value === null || typeof value !== "object") return JSON.stringify(short(value));
  const inner = `${indent}  `;
  let parts;
  if (Array.isArray(value)) {
    parts = value.map((each) => pretty(each, inner));
    if (parts.length > MANY_NUMBERS && value.every((each) => typeof each === "number")) {
      parts = [...parts.slice(0, SHOWN), t("js.json.in_all", { count: parts.length })];
    }
  } else {
    parts = Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${pretty(each, inner)}`);
  }
  const [first, last] = Array.isArray(value) ? "[]" : "{}";
  const line = first + parts.join(", ") + last;
  if ((indent + line).length <= WIDTH && !line.includes("\n")) return line;
  return `${first}\n${inner}${parts.join(`,\n${inner}`)}\n${indent}${last}`;
}

function short(value) {
  if (typeof value !== "string" || value.length <= LONG_TEXT || value.includes(" ")) return value;
  return t("js.json.characters", { start: value.slice(0, 48), length: value.length });
}
