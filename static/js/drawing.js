/** Drawings as text, for links and samples; and kept in this tab while a page is loaded again. */

const SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"; // base64url
const STEPS = SIGNS.length ** 2; // of a coordinate, which has two signs, from FIRST on
const [FIRST, SPAN] = [-0.5, 2]; // a stroke may leave the pad
const NEAR = 0.002; // how far a point that is left out may lie from the line, of the pad's side
const NAME = "glimpse-drawing";
const LINKED = "#d="; // before a drawing in an address: others are places of the page
const MOST = 20_000; // signs of a drawing that is taken from a link

/** `strokes`, lists of [x, y], as text of letters, digits, -, _ and ~. */
export function written(strokes) {
  return strokes.map((stroke) => thinned(stroke).flat().map(sign).join("")).join("~");
}

/** The strokes of `text`; null where it is no drawing. */
export function readFrom(text) {
  if (text.length > MOST || !/^(?:[\w-]{4})+(?:~(?:[\w-]{4})+)*$/.test(text)) return null;
  return text.split("~").map((stroke) =>
    stroke.match(/.{4}/g).map((point) => [value(point.slice(0, 2)), value(point.slice(2))]),
  );
}

function sign(coordinate) {
  const share = (coordinate - FIRST) / SPAN;
  const step = Math.min(Math.max(Math.round(share * STEPS), 0), STEPS - 1);
  return SIGNS[Math.floor(step / SIGNS.length)] + SIGNS[step % SIGNS.length];
}

function value([high, low]) {
  return FIRST + (SPAN * (SIGNS.indexOf(high) * SIGNS.length + SIGNS.indexOf(low))) / STEPS;
}

/** The points without which the line would be another, after Ramer, Douglas and Peucker. */
function thinned(points) {
  if (points.length < 3) return points;
  const [first, last] = [points[0], points.at(-1)];
  const distances = points.map((point) => fromLine(point, first, last));
  const farthest = distances.indexOf(Math.max(...distances));
  if (distances[farthest] <= NEAR) return [first, last];
  return [...thinned(points.slice(0, farthest + 1)).slice(0, -1), ...thinned(points.slice(farthest))];
}

/** How far a point is from the line between two others. */
function fromLine([x, y], [ax, ay], [bx, by]) {
  const [dx, dy] = [bx - ax, by - ay];
  const along = ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1);
  const share = Math.min(Math.max(along, 0), 1);
  return Math.hypot(x - ax - share * dx, y - ay - share * dy);
}

/** The drawing that the address holds; null where it holds none. */
export function linked() {
  return location.hash.startsWith(LINKED) ? readFrom(location.hash.slice(LINKED.length)) : null;
}

/** The drawing that the address or else this tab holds; null where neither does. */
export function kept() {
  const strokes = linked();
  if (strokes) return strokes;
  try {
    return readFrom(sessionStorage.getItem(NAME) ?? "");
  } catch {
    return null;
  }
}

/** Has this tab hold `strokes` until it is closed. */
export function keep(strokes) {
  try {
    sessionStorage.setItem(NAME, written(strokes));
  } catch {
    // It is gone with the page.
  }
}

/** The address of this page, or of `page`, with `strokes` in it: the part that no server gets. */
export function linkTo(strokes, page = location.href) {
  const url = new URL(page, location);
  url.hash = LINKED + written(strokes);
  return url.href;
}
