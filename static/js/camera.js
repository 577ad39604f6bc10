/** Takes a photo with the camera, in a dialog. */

import { encoded } from "./encode.js";

export const hasCamera = Boolean(navigator.mediaDevices?.getUserMedia);

/** Opens `dialog`; gives the photo taken (a JPEG Blob), or null after Cancel or Escape. */
export async function takePhoto(dialog) {
  const video = dialog.querySelector("video");
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
  video.srcObject = stream;
  dialog.showModal();
  try {
    return await new Promise((resolve) => {
      dialog.querySelector("#shoot").onclick = () => resolve(still(video));
      dialog.querySelector("#cancel").onclick = () => resolve(null);
      dialog.oncancel = () => resolve(null);
    });
  } finally {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
    dialog.close();
  }
}

function still(video) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  return encoded(canvas, "image/jpeg", 0.92);
}
