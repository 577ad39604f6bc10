/** A mirror: the faces that the camera sees are named all the time. */

import { still } from "./camera.js";
import { post } from "./post.js";
import { failure, problemOf } from "./problem.js";
import { percent } from "./score.js";
import { labelled, t } from "./texts.js";

const SIDE = 640; // pixels of what is sent
const SMALL_SIDE = 320; // the same while all faces are large: it costs half as much
const LARGE = 0.18; // of the picture's longer side: a face that is found as well in the smaller picture
const FULL_LOOK = 1500; // ms after which those who are further away are looked for again
const PAUSE = 100; // ms from one picture to the next at least, so that the page stays quick
const REST = 3000; // ms after a failure, or while the page is hidden
const TOLD = 1500; // ms from one text to the next at least, for those who listen

/** Has the button #mirror of `dialog` start and stop it; gives what ends it. */
export function runMirror(dialog, video) {
  const button = dialog.querySelector("#mirror");
  if (!button) return () => {};
  const boxes = dialog.querySelector("#live-boxes");
  const told = dialog.querySelector("#mirror-told");
  let flight = null;
  let toldAt = 0;
  let isNear = false; // all faces are large
  let fullAt = 0; // when the last picture of SIDE was sent

  const end = () => {
    flight?.abort();
    flight = null;
    button.ariaPressed = "false";
    boxes.replaceChildren();
    told.textContent = "";
  };

  button.onclick = () => {
    if (flight) return end();
    flight = new AbortController();
    button.ariaPressed = "true";
    look(flight.signal);
  };

  // One picture after another: a slow server gets fewer, and none ever waits for the one before.
  async function look(signal) {
    while (!signal.aborted) {
      const isSeen = !document.hidden && video.videoWidth > 0;
      const wait = isSeen ? await once(signal).catch((cause) => tellFailure(cause, signal)) : REST / 10;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  /** Sends a picture and shows its faces; gives how long to wait for the next. */
  async function once(signal) {
    const next = performance.now() + PAUSE;
    const headers = { "Content-Type": "image/jpeg" };
    const isSmall = isNear && performance.now() - fullAt < FULL_LOOK;
    if (!isSmall) fullAt = performance.now();
    const picture = still(video, isSmall ? SMALL_SIDE : SIDE);
    const response = await post(button.dataset.url, picture, headers, { signal });
    const body = await response.json().catch(() => null);
    if (signal.aborted) return 0;
    if (response.ok) show(body.results[0]);
    else if (response.status === 422) show({ faces: [] });
    else {
      tell(problemOf(body, t("js.photo.failed", { status: response.status })).message);
      return 1000 * Number(response.headers.get("Retry-After")) || REST;
    }
    return Math.max(0, next - performance.now());
  }

  function tellFailure(cause, signal) {
    if (signal.aborted) return 0;
    boxes.replaceChildren();
    tell(failure(cause, t("js.photo.slow"), t("js.photo.unreachable")).message);
    return REST;
  }

  function show({ faces, width, height }) {
    const least = LARGE * Math.max(width, height);
    isNear = faces.length > 0 && faces.every(({ box }) => Math.min(box.width, box.height) >= least);
    const isMirrored = !dialog.classList.contains("is-back");
    boxes.replaceChildren(...faces.map((face) => box(face, width, height, isMirrored)));
    const names = faces.map(({ label, score }) => `${labelled(label)} ${percent(score, 0)}`);
    tell(names.join(", ") || t("js.mirror.none"));
  }

  function tell(text) {
    if (performance.now() - toldAt < TOLD) return;
    toldAt = performance.now();
    told.textContent = text;
  }

  return end;
}

function box({ box: { x, y, width, height }, label, score }, wide, high, isMirrored) {
  const left = isMirrored ? wide - x - width : x;
  const element = document.createElement("div");
  element.className = "live-face";
  Object.assign(element.style, {
    left: `${(100 * left) / wide}%`,
    top: `${(100 * y) / high}%`,
    width: `${(100 * width) / wide}%`,
    height: `${(100 * height) / high}%`,
  });
  const tag = document.createElement("span");
  tag.className = "tag";
  tag.textContent = `${labelled(label)} ${percent(score, 0)}`;
  element.append(tag);
  return element;
}
