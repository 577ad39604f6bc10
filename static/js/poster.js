/** A picture to keep of a drawing with its answer. */

import { encoded } from "./encode.js";
import { paint } from "./pad.js";
import { Problem } from "./problem.js";
import { percent } from "./score.js";
import { t } from "./texts.js";

const [WIDTH, HEIGHT, MARGIN] = [1200, 630, 60]; // as links are shown with pictures
const FONT = 'system-ui, "Segoe UI", Roboto, sans-serif';

/** The PNG of `strokes` and the `result` of /api/predict, which may be null; throws a Problem. */
export function pictureOf(strokes, result, sureness) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [WIDTH, HEIGHT];
  const pen = canvas.getContext("2d");
  const side = HEIGHT - 2 * MARGIN;
  fill(pen, "#f5f3ee", 0, 0, WIDTH, HEIGHT);
  fill(pen, "#fff", MARGIN, MARGIN, side, side);
  const paper = document.createElement("canvas");
  paper.width = paper.height = side;
  paint(paper.getContext("2d"), strokes, "#1b1d1b");
  pen.drawImage(paper, MARGIN, MARGIN);
  const left = 2 * MARGIN + side;
  const room = WIDTH - left - MARGIN;
  pen.textBaseline = "alphabetic";
  if (result) {
    const isNone = result.verdict === "none";
    write(pen, isNone ? "?" : result.label, `700 280px ${FONT}`, "#0b6355", left, 320, room);
    if (!isNone) write(pen, percent(result.score), `650 64px ${FONT}`, "#1b1d1b", left, 420, room);
    write(pen, sureness, `400 36px ${FONT}`, "#5b5e59", left, 480, room);
  }
  write(pen, `Glimpse · ${location.host}`, `600 28px ${FONT}`, "#5b5e59", left, HEIGHT - MARGIN, room);
  let file = null;
  try {
    file = encoded(canvas, "image/png");
  } catch {
    // As in the pad.
  }
  if (!file) throw new Problem(t("js.pad.unreadable"));
  return file;
}

function fill(pen, colour, ...place) {
  pen.fillStyle = colour;
  pen.fillRect(...place);
}

/** Writes `text`, smaller where it is wider than `room`. */
function write(pen, text, font, colour, x, y, room) {
  pen.font = font;
  const { width } = pen.measureText(text);
  const size = Number(font.match(/(\d+)px/)[1]);
  if (width > room) pen.font = font.replace(/\d+px/, `${Math.floor((size * room) / width)}px`);
  pen.fillStyle = colour;
  pen.fillText(text, x, y);
}
