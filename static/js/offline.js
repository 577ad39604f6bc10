/** The page in another's place while the server cannot be reached: it tries again by itself. */

import { whenBack } from "./line.js";

const again = document.querySelector("#again");

function reload() {
  // Opened by its own address, it stands in no page's place.
  if (location.pathname === again.dataset.own) location.replace(again.dataset.home);
  else location.reload();
}

again.addEventListener("click", reload);
whenBack(reload);
