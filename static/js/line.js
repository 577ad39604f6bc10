/** The line to the server: a word when it is down, and what to do once it is back. */

const EVERY = 3000; // ms from one try to the next

const at = (path) => new URL(`../../../${path}`, import.meta.url); // of the server, under any prefix
const told = document.querySelector("#offline");

/** Calls `then` once, when the server can be reached again; gives what ends the wait. */
export function whenBack(then) {
  const timer = setInterval(look, EVERY);
  const end = () => {
    clearInterval(timer);
    removeEventListener("online", look);
  };
  addEventListener("online", look);

  async function look() {
    if (document.hidden) return;
    const response = await fetch(at("healthz"), { cache: "no-store" }).catch(() => null);
    if (!response?.ok) return;
    end();
    then();
  }

  return end;
}

function tell() {
  if (told) told.textContent = navigator.onLine ? "" : told.dataset.text;
}

for (const type of ["online", "offline"]) addEventListener(type, tell);
tell();

// Without a service worker the pages are the same, but for when there is no connection.
function register() {
  navigator.serviceWorker?.register(at("sw.js"), { updateViaCache: "none" }).catch(() => {});
}

// After the page's own files, with which its own would compete.
if (document.readyState === "complete") register();
else addEventListener("load", register);
