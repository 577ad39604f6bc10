/** Takes a photo with the camera, in a dialog. */

import { encoded } from "./encode.js";

export const hasCamera = Boolean(navigator.mediaDevices?.getUserMedia);

/**
 * Opens `dialog`; gives the photo taken (a JPEG Blob), or null after Cancel or Escape.
 * `accompany(dialog, video)` does more with the camera's pictures; what it gives ends that.
 */
export async function takePhoto(dialog, accompany) {
  const video = dialog.querySelector("video");
  let stream = await open("user");
  let end = () => {};
  const show = (facing) => {
    video.srcObject = stream;
    dialog.classList.toggle("is-back", facing === "environment");
  };
  show("user");
  dialog.showModal();
  try {
    end = accompany(dialog, video);
    return await new Promise((resolve) => {
      dialog.querySelector("#shoot").onclick = () => resolve(still(video));
      dialog.querySelector("#cancel").onclick = () => resolve(null);
      dialog.oncancel = () => resolve(null);
      dialog.querySelector("#turn").onclick = async () => {
        const facing = dialog.classList.contains("is-back") ? "user" : "environment";
        stop(stream); // a phone opens one at a time
        stream = await open(facing).catch(() => open("user"));
        show(facing);
      };
    });
  } finally {
    end();
    stop(stream);
    video.srcObject = null;
    dialog.close();
  }
}

function open(facingMode) {
  return navigator.mediaDevices.getUserMedia({ video: { facingMode } });
}

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}

/** What the camera shows, a JPEG Blob of at most `longest` pixels a side. */
export function still(video, longest = Infinity) {
  const { videoWidth, videoHeight } = video;
  const scale = Math.min(1, longest / Math.max(videoWidth, videoHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(videoWidth * scale);
  canvas.height = Math.round(videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return encoded(canvas, "image/jpeg", longest < Infinity ? 0.8 : 0.92);
}
