/** Files that come into a page, and go out of it, by the browser's own ways. */

import { Problem } from "./problem.js";
import { t } from "./texts.js";

/**
 * Calls `take` with the DataTransfer of what is dropped on the page, `refuse` with a Problem where
 * that is no file. While something is dragged over `zone`, `mark` is of the class "is-over".
 */
export function whenDropped(mark, zone, take, refuse) {
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      mark.classList.toggle("is-over", zone.contains(event.target));
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) mark.classList.remove("is-over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark.classList.remove("is-over");
    const isFile = [...event.dataTransfer.items].some(({ kind }) => kind === "file");
    if (isFile) take(event.dataTransfer);
    else refuse(new Problem(t("js.transfer.no_file")));
  });
}

/** Calls `take` with the first picture of what is pasted, where there is one. */
export function whenPicturePasted(take) {
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (file) take(file);
  });
}

/** Gives `blob` to be saved as a file. */
export function saveAs(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
