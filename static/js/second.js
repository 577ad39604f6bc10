/** The choice of a second model beside the page's own. */

/** Fills `select` with the models that it may be; the address may name one, as in `?second=digits`. */
export function offerModels(select) {
  if (!select) return;
  const names = JSON.parse(select.dataset.models);
  for (const name of names) select.add(new Option(name));
  const asked = new URLSearchParams(location.search).get("second");
  if (names.includes(asked)) select.value = asked;
}

/** The address at which the model that is chosen in `select` is asked. */
export function addressOf(select) {
  const url = new URL(select.dataset.url, location);
  url.searchParams.set("model", select.value);
  return url;
}
