/** The page's texts for its scripts: those that its template put into <meta name="texts">. */

const texts = JSON.parse(document.querySelector("meta[name=texts]").content);
const { lang } = document.documentElement;

/** The text of `key` with `values` in its places; of several forms the one for `values.count`. */
export function t(key, values = {}) {
  const text = texts[key];
  const form = values.count === 1 ? text.one : text.other;
  return (form ?? text).replace(/\{(\w+)\}/g, (_, name) => shown(values[name]));
}

/** The text of `family.name`, where `name` comes from an answer; undefined where there is none. */
export function named(family, name) {
  return texts[`${family}.${name}`];
}

/** A label of an answer as people read it. */
export function labelled(label) {
  return named("label", label) ?? label;
}

/** A number as the page's language writes it. */
export function number(value, digits = 0) {
  return value.toLocaleString(lang, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function shown(value) {
  return typeof value === "number" ? number(value) : value;
}
