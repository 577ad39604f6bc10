/** Takes a report back, with the code that its sender got. */

import { postOnce } from "./post.js";
import { problemOf } from "./problem.js";
import { t } from "./texts.js";

/** Has the server at `url` delete the report of `code`; throws a Problem or a NoAnswer. */
export async function withdraw(url, code) {
  const headers = { "Content-Type": "application/json" };
  const response = await postOnce(url, JSON.stringify({ code }), headers);
  if (response.ok) return;
  const answer = await response.json().catch(() => null);
  throw problemOf(answer, t("js.withdraw.failed", { status: response.status }));
}
