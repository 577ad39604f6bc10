/**
 * Small pictures of large files. Each is drawn when it comes into view, one at a time, and kept as
 * a few pixels: an <img> of a photo would hold the whole file in memory.
 */

const SIDE = 96; // pixels

const files = new WeakMap();
const wanted = [];
let drawing = false;

const observer = new IntersectionObserver(
  (changes) => {
    for (const { target, isIntersecting } of changes) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      wanted.push(target);
    }
    if (!drawing) drawAll();
  },
  { rootMargin: "50%" },
);

/** A canvas on which the picture in `file` will be seen; it stays empty where there is none. */
export function thumbnail(file) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  canvas.ariaHidden = "true";
  files.set(canvas, file);
  observer.observe(canvas);
  return canvas;
}

async function drawAll() {
  drawing = true;
  for (let canvas; (canvas = wanted.shift()); ) {
    if (canvas.isConnected) await draw(files.get(canvas), canvas).catch(() => {});
  }
  drawing = false;
}

async function draw(file, canvas) {
  const options = { resizeWidth: SIDE, resizeQuality: "medium", imageOrientation: "from-image" };
  const picture = await createImageBitmap(file, options);
  const scale = SIDE / Math.max(picture.width, picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  const place = [(SIDE - width) / 2, (SIDE - height) / 2, width, height];
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff"; // what is transparent is read as white
  pen.fillRect(...place);
  pen.drawImage(picture, ...place);
  picture.close();
  canvas.classList.add("is-drawn");
}
