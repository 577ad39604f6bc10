/**
 * What the browser does when the server cannot be reached: it shows the page to draw on, or says
 * that there is no connection. Before it the server puts VERSION, the name of the pages' files, and
 * LANGUAGES, the tags of theirs.
 *
 * Kept are those files, the page to draw on and the page that says so, by language; never an
 * answer of the API. Pages come from the server whenever it can be reached.
 */

/* global VERSION, LANGUAGES */

const CACHE = `glimpse-${VERSION}`;
const HOME = new URL("./", self.location);
const OFFLINE = new URL("offline", self.location);
const FILES = new URL(`assets/${VERSION}/`, self.location).href;

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET") return;
  if (request.url.startsWith(FILES)) event.respondWith(file(request));
  else if (request.destination === "document") event.respondWith(page(event));
});

async function install() {
  const cache = await caches.open(CACHE);
  const wanted = [HOME, OFFLINE, ...LANGUAGES.map((tag) => inLanguage(OFFLINE, tag))];
  const pages = await Promise.all(wanted.map((url) => fetch(url, { cache: "no-store" })));
  const files = await Promise.all(pages.filter(isWhole).map((response) => keepPage(cache, response)));
  await cache.addAll(new Set(files.flat()));
  await self.skipWaiting(); // files of an older version are found on the server by its names
}

async function activate() {
  const old = (await caches.keys()).filter((name) => name.startsWith("glimpse-") && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.registration.navigationPreload?.enable();
}

/** `page` as links in the language `tag` name it; where none is asked for, as the browser likes it. */
function inLanguage(page, tag) {
  const url = new URL(page);
  if (LANGUAGES.includes(tag)) url.searchParams.set("lang", tag);
  return url;
}

/** Whether it is the page itself, not one that it sends to. */
function isWhole(response) {
  return response.ok && !response.redirected;
}

/** Keeps a page; gives the addresses of its files. */
async function keepPage(cache, response) {
  const html = await response.clone().text();
  await cache.put(response.url, response);
  const found = [...html.matchAll(/ (?:href|src)="([^"]+)"/g)].map(([, url]) => new URL(url, HOME).href);
  return found.filter((url) => url.startsWith(FILES));
}

/** A file: its name changes with its content. */
async function file(request) {
  const found = await kept(request);
  if (found) return found;
  const response = await fetch(request);
  if (response.ok) await keep(request, response.clone());
  return response;
}

function kept(request) {
  return caches.match(request, { ignoreVary: true, cacheName: CACHE });
}

/** Keeps a response, unless a newer version has taken what was kept away meanwhile. */
async function keep(request, response) {
  if (!(await caches.has(CACHE))) return;
  const cache = await caches.open(CACHE);
  await cache.put(request, response);
}

/** A page from the server; where that cannot be reached, the page to draw on, or that which says so. */
async function page(event) {
  const url = new URL(event.request.url);
  const [home, offline] = [HOME, OFFLINE].map((each) => inLanguage(each, url.searchParams.get("lang")));
  try {
    const response = (await event.preloadResponse) ?? (await fetch(event.request));
    if (url.origin + url.pathname + url.search === home.href && isWhole(response)) {
      event.waitUntil(keep(home, response.clone()));
    }
    return response;
  } catch {
    const isHome = url.pathname === HOME.pathname;
    return (isHome && (await kept(home))) || (await kept(offline)) || Response.error();
  }
}
