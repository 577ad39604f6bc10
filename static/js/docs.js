/** The page of the API: each form makes a call, shows it as a curl command, and its answer. */

import { pretty } from "./json.js";
import { NoAnswer, fetchWhole, hasKey, postOnce } from "./post.js";
import { t } from "./texts.js";

const PATIENCE = 60_000; // ms that an answer may take
const MOST_SHOWN = 200_000; // characters of an answer that is no JSON
const HEADERS = [
  "Content-Type",
  "X-Request-ID",
  "Retry-After",
  "WWW-Authenticate",
  "Inference-Header-Content-Length",
];
const AUTHORIZATION = '-H "Authorization: Bearer $GLIMPSE_KEY"';
const { root } = document.querySelector("[data-root]").dataset;
const told = document.querySelector("#told");

/** A form's call, and what is shown of it. */
class Trial {
  #form;
  #file = null; // the picture chosen instead of the sample
  #flight = new AbortController();

  constructor(form) {
    this.#form = form;
    form.parentElement.hidden = false;
    form.addEventListener("input", () => this.show());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    if (this.#part("name")) this.#pick();
    this.show();
  }

  /** The call as a curl command. */
  show() {
    const { path, curl } = this.#call();
    const [hint, url] = [this.#part("key-hint"), quoted(root + path)];
    if (hint) hint.hidden = !hasKey();
    const sendsKey = this.#form.dataset.method !== "GET" && hasKey();
    this.#part("curl").textContent = curl(sendsKey ? `${AUTHORIZATION} ${url}` : url);
  }

  /** Lets a file take the sample's place, and the sample the file's. */
  #pick() {
    const [input, sample] = [this.#form.querySelector("[type=file]"), this.#part("sample")];
    const image = this.#form.querySelector("img");
    const original = image.src;
    const choose = (file) => {
      URL.revokeObjectURL(image.src);
      this.#file = file;
      image.src = file ? URL.createObjectURL(file) : original;
      sample.hidden = !file;
      this.#part("download").hidden = Boolean(file);
      input.value = ""; // the same file can be chosen again
      this.show();
    };
    input.addEventListener("change", () => input.files[0] && choose(input.files[0]));
    sample.addEventListener("click", () => {
      choose(null);
      input.focus();
    });
  }

  /** Path, headers and what makes the body of the call; `curl(rest)` is the same as a command. */
  #call() {
    const { method, path: template } = this.#form.dataset;
    const controls = [...this.#form.querySelectorAll("[data-in]")];
    const inPath = (name) => controls.find((each) => each.name === name).value;
    const path = template.replaceAll(/\{(\w+)\}/g, (_, name) => encodeURIComponent(inPath(name)));
    if (method === "GET") return { path, curl: (rest) => `curl ${rest}` };
    if (this.#part("name")) return this.#withPicture(path, parametersOf(controls));
    const { body: written } = this.#form.elements;
    if (!written) return { path, headers: {}, body: () => "", curl: (rest) => `curl -X ${method} ${rest}` };
    const text = written.value;
    return {
      path,
      headers: { "Content-Type": "application/json" },
      body: () => text,
      curl: (rest) => `curl -H 'Content-Type: application/json' -d ${quoted(text)} ${rest}`,
    };
  }

  #withPicture(path, parameters) {
    const image = this.#form.querySelector("img");
    const name = this.#file?.name ?? image.dataset.sample;
    const type = this.#file ? this.#file.type || "application/octet-stream" : "image/png";
    const picture = async () => this.#file ?? new File([await (await fetch(image.src)).blob()], name, { type });
    this.#part("name").textContent = name;
    const asJSON = "-H 'Content-Type: application/json'";
    switch (this.#form.elements["sent-as"].value) {
      case "form": {
        const fields = Object.entries(parameters).map(([key, value]) => `-F ${quoted(`${key}=${value}`)} `);
        return {
          path,
          body: async () => {
            const form = new FormData();
            form.append("file", await picture());
            for (const [key, value] of Object.entries(parameters)) form.append(key, value);
            return form;
          },
          curl: (rest) => `curl -F ${quoted(`file=@${inForm(name)}`)} ${fields.join("")}${rest}`,
        };
      }
      case "bytes": {
        const query = new URLSearchParams(parameters);
        return {
          path: query.size ? `${path}?${query}` : path,
          headers: { "Content-Type": type },
          body: picture,
          curl: (rest) => `curl --data-binary ${quoted(`@${name}`)} -H ${quoted(`Content-Type: ${type}`)} ${rest}`,
        };
      }
      default: {
        const more = JSON.stringify(parameters).slice(1, -1);
        const after = more ? `", ${more}}` : '"}';
        return {
          path,
          headers: { "Content-Type": "application/json" },
          body: async () => `{"image": "${await base64(await picture())}${after}`,
          curl: (rest) =>
            `{ printf '{"image": "'; base64 < ${quoted(name)} | tr -d '\\n'; printf %s ${quoted(after)}; } |\n` +
            `  curl --data-binary @- ${asJSON} ${rest}`,
        };
      }
    }
  }

  async #send() {
    const { path, headers, body } = this.#call();
    this.#flight.abort();
    const { signal } = (this.#flight = new AbortController());
    this.#form.ariaBusy = "true";
    this.#fail("");
    try {
      const sent = await body?.();
      const started = performance.now();
      const response = body
        ? await postOnce(root + path, sent, headers, { signal, patience: PATIENCE, method: this.#form.dataset.method })
        : await fetchWhole(root + path, {}, { signal, patience: PATIENCE });
      const text = await response.text();
      if (!signal.aborted) this.#tell(response, text, performance.now() - started);
    } catch (cause) {
      if (signal.aborted) return;
      if (!(cause instanceof NoAnswer)) throw cause;
      this.#fail(cause.slow ? t("js.docs.slow") : t("js.docs.unreachable"));
    }
    this.#form.ariaBusy = "false";
  }

  /** Shows an answer. */
  #tell(response, text, milliseconds) {
    const status = `${response.status} ${response.statusText}`.trim();
    const time = `${Math.round(milliseconds)} ms`;
    this.#part("status").textContent = status;
    this.#part("time").textContent = time;
    const given = HEADERS.filter((name) => response.headers.has(name));
    this.#part("headers").replaceChildren(...given.map((name) => entry(name, response.headers.get(name))));
    this.#part("body").textContent = laidOut(text);
    this.#part("status").closest(".answered").hidden = false;
    told.textContent = t("js.docs.answer", { status, time });
  }

  #fail(sentence) {
    const error = this.#part("error");
    error.textContent = sentence;
    error.hidden = !sentence;
  }

  #part(name) {
    return this.#form.querySelector(`[data-part=${name}]`);
  }
}

/** The parameters that differ from their defaults, as JSON has them. */
function parametersOf(controls) {
  const parameters = {};
  for (const { name, type, value, checked, dataset } of controls) {
    if (type === "checkbox" ? !checked : value === "" || value === dataset.default) continue;
    parameters[name] = type === "checkbox" ? true : type === "number" ? Number(value) : value;
  }
  return parameters;
}

/** A text as one word of a shell. */
function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** A file's name as curl's -F takes it: to it , and ; are more than letters. */
function inForm(name) {
  return /[",;\\]/.test(name) ? `"${name.replaceAll(/["\\]/g, "\\$&")}"` : name;
}

/** A file's bytes in base64. */
function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function laidOut(text) {
  try {
    return pretty(JSON.parse(text));
  } catch {
    return text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}…` : text;
  }
}

function entry(name, value) {
  const [row, term, data] = ["div", "dt", "dd"].map((each) => document.createElement(each));
  term.textContent = name;
  data.textContent = value;
  row.append(term, data);
  return row;
}

const trials = [...document.querySelectorAll(".try > form")].map((form) => new Trial(form));
document.querySelector("#key")?.addEventListener("submit", () => {
  for (const trial of trials) trial.show();
});
