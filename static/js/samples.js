/** Drawings to try, for those who first want to see what happens. */

import { readFrom } from "./drawing.js";
import { t } from "./texts.js";

/** Written for this project, and one that is no digit. */
const SAMPLES = {
  "7":
    "Y6XKZYT2pBT2emrh~ctfsnmfs",
  "3":
    "e4Wcg7UijVT2leUimwWcm1ZDltbqjqdkgBevhufbjzgzk0jNkkmFjGozgvqweArhbgq7ZzpGZQmc",
  "42":
    "aPZmUGiDeFiD~bBeNbBma~jRcrkGa7lvZ1ntZqphaeqpcDq1d9p_ftjNmarZma",
  "2026":
    "SmdsTBc1T1cRU0cMVucmWSdYWYeWV9fNSkikWqik~cYcNbQcXaVdTZ3ezZ9gdamh0boihcwiXdrhbeJf7eDeRdac6cYcN~dqc7aehq~hodsiDc1i3cRj3cMkwcmlVdYlaeWk_fNhmikltik~sMcKqbeWpigepXhUphiEp-igqmihrOiHrthZr6gjrxfyrVfUqufRqFfpplgWpXhM",
  A:
    "X0o9gAUfoMo9~bFhmk7hm",
};

const NAMESPACE = "http://www.w3.org/2000/svg";

/** Fills `list` with a button for each sample; `take` hears the strokes of the one that is pressed. */
export function showSamples(list, take) {
  for (const [name, drawing] of Object.entries(SAMPLES)) {
    const strokes = readFrom(drawing);
    const button = document.createElement("button");
    button.type = "button";
    button.ariaLabel = t("js.samples.draw", { name });
    button.append(thumbnail(strokes));
    button.addEventListener("click", () => take(strokes, name));
    list.append(button);
  }
}

/** A small picture of `strokes`, for eyes alone. */
export function thumbnail(strokes) {
  const picture = document.createElementNS(NAMESPACE, "svg");
  picture.setAttribute("viewBox", "0 0 1 1");
  picture.setAttribute("aria-hidden", "true");
  for (const stroke of strokes) {
    const line = document.createElementNS(NAMESPACE, "polyline");
    line.setAttribute("points", stroke.map((point) => point.map((each) => each.toFixed(3)).join(",")).join(" "));
    picture.append(line);
  }
  return picture;
}
