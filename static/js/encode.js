/** Pictures in base64 as files. */

/**
 * What is on `canvas` as a file, or null where the browser cannot give it. At once: toBlob, and
 * convertToBlob too, wait until Chromium finds time, up to a second while nothing moves.
 */
export function encoded(canvas, type, quality) {
  const file = fileOf(canvas.toDataURL(type, quality));
  return file.type === type ? file : null;
}

/** The file of a data URL in base64. */
export function fileOf(url) {
  const [, type, body] = url.match(/^data:([^;,]*)[^,]*,(.*)$/);
  return new Blob([Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0))], { type });
}
