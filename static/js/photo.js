/** A photo that was chosen: made small enough to send, and asked about. */

import { encoded } from "./encode.js";
import { post } from "./post.js";
import { failure, problemOf } from "./problem.js";
import { noted } from "./shown.js";
import { t } from "./texts.js";

const LONGEST = 2048; // pixels of the longer side of what is sent instead of a large file
const LARGE = 300 * 1024; // bytes; to send a larger file takes longer than to make it smaller

/**
 * The photo as it is sent: a large file's picture is made smaller where the browser can read it,
 * since a face needs no more and a phone's connection is slow. What is transparent becomes white.
 */
export async function lightened(file) {
  if (file.size <= LARGE) return file;
  try {
    const smaller = await copied(file);
    return smaller.size < file.size ? smaller : file;
  } catch {
    return file; // the server says what is wrong with it
  }
}

/** The picture in `file` drawn anew, and smaller where it is large; throws where the browser cannot. */
export async function copied(file) {
  const picture = await createImageBitmap(file, { imageOrientation: "from-image" });
  const scale = Math.min(1, LONGEST / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  const copy = encoded(canvas, "image/jpeg", 0.9);
  if (!copy) throw new Error("this browser gives no JPEG");
  return copy;
}

/**
 * Asks `url` about `file`; gives the result of /api/predict, or throws a Problem. `sent(share)`
 * hears how much of it is sent.
 */
export async function ask(url, file, signal, sent) {
  let response;
  try {
    response = await post(url, file, { "Content-Type": "application/octet-stream" }, { signal, sent });
  } catch (cause) {
    if (signal.aborted) throw cause;
    throw failure(cause, t("js.photo.slow"), t("js.photo.unreachable"));
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return noted(answer, response, [file])[0];
  throw problemOf(answer, t("js.photo.failed", { status: response.status }));
}
