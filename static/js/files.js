/** Files that are dropped, pasted or chosen: many at a time, and whole folders. */

import { whenDropped } from "./transfer.js";

const ORDER = new Intl.Collator("en", { numeric: true });

/**
 * Calls `take` with an array of {file, name}, sorted by name, whenever files come: dropped, pasted,
 * or chosen with one of `inputs`. A file of a folder has its path as `name`; hidden ones are left
 * out. Of dropped folders reading ends after `most` files. `fail` is called where it cannot be done,
 * with a Problem where what was dropped is no file.
 */
export function whenFiles(drop, inputs, most, take, fail) {
  const hand = (files) => {
    if (files.length) take(files.sort((a, b) => ORDER.compare(a.name, b.name)));
  };
  for (const input of inputs) {
    input.addEventListener("change", () => {
      hand([...input.files].map(named).filter(({ name }) => !/\/\./.test(name)));
      input.value = ""; // the same files can be chosen again
    });
  }
  whenDropped(drop, drop, (transfer) => dropped(transfer, most).then(hand, () => fail()), fail);
  document.addEventListener("paste", (event) => hand([...event.clipboardData.files].map(named)));
}

function named(file) {
  return { file, name: file.webkitRelativePath || file.name };
}

/** The items of a drop must be taken hold of at once; what is in folders comes later. */
async function dropped({ items }, most) {
  const entries = [...items]
    .filter(({ kind }) => kind === "file")
    .map((item) => item.webkitGetAsEntry() ?? item.getAsFile());
  const found = [];
  for (const entry of entries) {
    if (entry instanceof File) found.push(named(entry));
    else await gather(entry, found, most);
  }
  return found;
}

/** Adds to `found` the files of `entry`, a file or a folder, until there are more than `most`. */
async function gather(entry, found, most) {
  if (found.length > most) return;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, name: entry.fullPath.slice(1) });
    return;
  }
  const reader = entry.createReader();
  const inside = [];
  for (let some; (some = await read(reader)).length; ) inside.push(...some);
  inside.sort((a, b) => ORDER.compare(a.name, b.name));
  for (const each of inside) if (!each.name.startsWith(".")) await gather(each, found, most);
}

function read(reader) {
  return new Promise((resolve, reject) => reader.readEntries(resolve, reject));
}
