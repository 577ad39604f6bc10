"""Nothing that a client can send is answered by anything but a result or a problem."""

from __future__ import annotations

import base64
import gc
import gzip
import io
import json
import random
import struct
import weakref
import zlib

import numpy as np
import pytest
from PIL import Image
from samples import encode, seven
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from app import create_app, predict

GZIP = {"Content-Encoding": "gzip"}
BOUNDARY = "multipart/form-data; boundary=x"


def png_chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png_of(width, height, *chunks, depth=8, colour=0):
    """A PNG file by hand: its header, other chunks and an end."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def body(content, kind="image/png"):
    return {"data": content, "content_type": kind}


def fields(**values):
    return {"data": values, "content_type": "multipart/form-data"}


def parts(count, value="b"):
    part = f'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n{value}\r\n'
    return {"data": (part * count + "--x--").encode(), "content_type": BOUNDARY}


def text(value):
    return {"data": value, "content_type": "application/json"}


def many_scans(count):
    """A progressive JPEG whose last, tiny scan is repeated: each takes as long as a picture."""
    jpeg = encode(seven(), "JPEG", progressive=True)
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + last * count + jpeg[-2:]


SEVEN = encode(seven())
JPEG = encode(seven("RGB", ink=(0, 0, 0), ground=(255,) * 3), "JPEG")
NOISE = random.Random(1).randbytes(2000)
SEVEN64 = base64.b64encode(SEVEN).decode()
BOMB = png_of(20_000, 20_000, png_chunk(b"IDAT", zlib.compress(bytes(20_001) * 20_000)))
ZTXT = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000)))

# What is sent, the status, and a word of the sentence that says what to do.
PROBLEMS = {
    "no body": ({}, 400, "no image"),
    "empty body": (body(b""), 400, "no image"),
    "no file part": (fields(top_k="3"), 400, "part named file"),
    "empty file": ({"data": {"file": (io.BytesIO(b""), "a.png")}}, 400, "empty"),
    "text as png": (body(b"hello, I am text"), 400, "not an image"),
    "noise": (body(NOISE), 400, "not an image"),
    "truncated png": (body(SEVEN[:200]), 400, "damaged"),
    "truncated jpeg": (body(JPEG[: len(JPEG) // 2], "image/jpeg"), 400, "damaged"),
    "jpeg of 1,000 scans": (body(many_scans(1000), "image/jpeg"), 400, "damaged"),
    "header of a png": (body(SEVEN[:20]), 400, "damaged"),
    "bomb": (body(BOMB), 413, "smaller size"),
    "0×0": (body(png_of(0, 0)), 400, "damaged"),
    "no pixels": (body(png_of(10, 10)), 400, "damaged"),
    "bomb in a text chunk": (body(png_of(10, 10, ZTXT)), 400, "damaged"),
    "blank": (body(encode(Image.new("L", (280, 280), 255))), 422, "blank"),
    "transparent": (body(encode(Image.new("RGBA", (280, 280)))), 422, "blank"),
    "1×1": (body(encode(Image.new("RGB", (1, 1)))), 422, "blank"),
    "tiff": (body(encode(seven(), "TIFF")), 415, "TIFF"),
    "pdf": (body(b"%PDF-1.7\n"), 415, "PDF"),
    "svg": (body(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), 415, "SVG"),
    "form content type": ({"data": b"a=b", "content_type": "text/plain"}, 415, "multipart"),
    "url-encoded": (
        {"data": b"image=abc", "content_type": "application/x-www-form-urlencoded"},
        415,
        "multipart",
    ),
    "no content type": ({"data": SEVEN}, 415, "content type"),
    "no boundary": ({"data": b"abc", "content_type": "multipart/form-data"}, 400, "boundary"),
    "wrong boundary": (
        {"data": b"--y\r\n\r\n\r\n--y--", "content_type": BOUNDARY},
        400,
        "boundary",
    ),
    "headers only": (
        {"data": b"--x\r\nContent-Disposition", "content_type": BOUNDARY},
        400,
        "head",
    ),
    "brotli": (
        {"data": SEVEN, "content_type": "image/png", "headers": {"Content-Encoding": "br"}},
        415,
        "Content-Encoding br",
    ),
    "no gzip": (
        {"data": SEVEN, "content_type": "image/png", "headers": GZIP},
        400,
        "not valid gzip",
    ),
    "half a gzip": (
        {"data": gzip.compress(SEVEN)[:-9], "content_type": "image/png", "headers": GZIP},
        400,
        "cut short",
    ),
    "a gzip of too much": (
        {"data": gzip.compress(bytes(2_000_001)), "content_type": "image/png", "headers": GZIP},
        413,
        "Send fewer",
    ),
    "too large a body": (body(b"\0" * 2_000_001), 413, "Send fewer"),
    "too large a field": (parts(1, "x" * 600_000), 413, "Send fewer"),
    "1,001 parts": (parts(1001), 413, "Send fewer"),
    "101 files": (
        {"data": {"file": [(io.BytesIO(SEVEN), "a") for _ in range(101)]}},
        413,
        "101 images",
    ),
    "101 in json": ({"json": {"images": [SEVEN64] * 101}}, 413, "101 images"),
    "wrong base64": ({"json": {"image": "%%%"}}, 400, "base64"),
    "base64 of text": ({"json": {"image": "aGVsbG8="}}, 400, "not an image"),
    "empty base64": ({"json": {"image": ""}}, 400, "empty"),
    "data url of text": ({"json": {"image": "data:text/plain,hello"}}, 400, "data:"),
    "not json": (text(b"{"), 400, "not valid JSON"),
    "not utf-8": (text(b'{"image": "\xff"}'), 400, "not valid JSON"),
    "surrogate as name": (text(b'{"\\ud800": 1, "image": "eA=="}'), 400, "not valid JSON"),
    "deep json": (text(b"[" * 200_000), 400, "not valid JSON"),
    "huge number": (text(b'{"top_k": ' + b"9" * 5000 + b"}"), 400, "JSON"),
    "json list": ({"json": [1]}, 400, "object"),
    "json null": (text(b"null"), 400, "object"),
    "json without image": ({"json": {}}, 400, "no image"),
    "empty images": ({"json": {"images": []}}, 400, "no image"),
    "image is a number": ({"json": {"image": 7}}, 400, "“image”"),
    "image is a list": ({"json": {"image": [SEVEN64]}}, 400, "“image”"),
    "images is a text": ({"json": {"images": SEVEN64}}, 400, "“images”"),
    "images holds a number": ({"json": {"images": [SEVEN64, 7]}}, 400, "images[1]"),
    "image is null": ({"json": {"image": None}}, 400, "“image”"),
    "images is null": ({"json": {"images": None}}, 400, "“images”"),
    "both": ({"json": {"image": SEVEN64, "images": [SEVEN64]}}, 400, "not both"),
    "both, one of them null": ({"json": {"image": SEVEN64, "images": None}}, 400, "not both"),
    "model is a number": ({"json": {"image": SEVEN64, "model": 1}}, 400, "“model”"),
    "surrogate as model": (
        text(json.dumps({"image": SEVEN64, "model": "\ud800"}).encode()),
        400,
        "not valid JSON",
    ),
    "unknown model": ({"json": {"image": SEVEN64, "model": "cats"}}, 404, "digits"),
    "faces": ({"json": {"image": SEVEN64, "faces": "some"}}, 400, "“faces”"),
    "faces is an object": ({"json": {"image": SEVEN64, "faces": {}}}, 400, "“faces”"),
    "seen": ({"json": {"image": SEVEN64, "seen": "perhaps"}}, 400, "“seen”"),
    **{
        f"top_k {value!r}": ({"json": {"image": SEVEN64, "top_k": value}}, 400, "from 1 to 10")
        for value in (0, -1, 11, "x", "", "1.5", 1.5, True, None, [], {}, "²", 10**30, "9" * 50)
    },
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_is_answered_with_the_contracts_problem(client, name):
    """The shape of every error: RFC 9457's four members and nothing of our insides."""
    request, status, word = PROBLEMS[name]
    files = request.get("data") if isinstance(request.get("data"), dict) else {}
    for part in files.get("file", []) if isinstance(files.get("file"), list) else []:
        part[0].seek(0)
    response = client.post("/api/predict", **request)
    assert response.status_code == status
    assert response.mimetype == "application/problem+json"
    problem = response.get_json()
    assert set(problem) == {"type", "title", "status", "detail"}
    assert problem["status"] == status
    assert problem["type"].startswith("urn:glimpse:problem:")
    assert word in problem["detail"]
    assert "Traceback" not in response.text


def animated():
    frames = [seven("RGB", ink=(0, 0, 0), ground=(255,) * 3), Image.new("RGB", (280, 280))]
    return frames[0], {"save_all": True, "append_images": frames[1:]}


def sixteen_bit():
    return Image.fromarray((255 - np.asarray(seven()).astype(np.uint16)) * 200 + 1000)


def palette(transparency):
    picture = seven("RGB", ink=(0, 0, 0), ground=(200, 220, 255)).quantize(8)
    return picture, {"transparency": transparency(picture)}


ODD = {
    "animated gif": lambda: encode(animated()[0], "GIF", **animated()[1]),
    "animated webp": lambda: encode(animated()[0], "WEBP", **animated()[1]),
    "cmyk jpeg": lambda: encode(seven("CMYK", ink=(0, 0, 0, 255), ground=(0, 0, 0, 0)), "JPEG"),
    "grey jpeg": lambda: encode(seven(), "JPEG"),
    "progressive jpeg": lambda: encode(seven(), "JPEG", progressive=True),
    "jpeg with markers in its comment": lambda: encode(
        seven(), "JPEG", comment=b"\xff\xda\0\0" * 1000
    ),
    "16-bit png": lambda: encode(sixteen_bit()),
    "1-bit png": lambda: encode(seven("1", ink=0, ground=1)),
    "grey with alpha": lambda: encode(seven("LA", ink=(0, 255), ground=(0, 0))),
    "rgba": lambda: encode(seven("RGBA", ink=(9, 9, 9, 255), ground=(0, 0, 0, 0))),
    "palette, one colour transparent": lambda: encode(
        palette(lambda picture: picture.getpixel((0, 0)))[0],
        transparency=palette(lambda picture: picture.getpixel((0, 0)))[1]["transparency"],
    ),
    "palette, an alpha an entry": lambda: encode(
        palette(lambda picture: bytes([255] * 8))[0], transparency=bytes([255] * 8)
    ),
    "rgb with a transparent colour": lambda: encode(
        seven("RGB", ink=(0, 0, 0), ground=(255,) * 3), transparency=(255, 255, 255)
    ),
    "bmp": lambda: encode(seven(), "BMP"),
    "webp": lambda: encode(seven("RGB", ink=(0, 0, 0), ground=(255,) * 3), "WEBP"),
    "wrong content type": lambda: encode(seven(), "JPEG"),
    "png with a tail": lambda: SEVEN + NOISE,
}


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_are_read_as_the_plain_one_is(client, name):
    response = client.post("/api/predict?seen=true", **body(ODD[name]()))
    assert response.status_code == 200, response.text
    plain = client.post("/api/predict?seen=true", **body(SEVEN))
    assert ink_of(response) == pytest.approx(ink_of(plain), rel=0.15)


def ink_of(response):
    """How much ink the network saw."""
    png = base64.b64decode(response.get_json()["results"][0]["seen"].partition(",")[2])
    return int(np.asarray(Image.open(io.BytesIO(png))).astype(int).sum())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_upright(client, orientation):
    upright = seven(size=(200, 300))
    lying = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    sent = [encode(lying, exif=exif), encode(upright)]
    turned, straight = (
        client.post("/api/predict?seen=true", **body(png)).get_json()["results"][0] for png in sent
    )
    assert (turned["width"], turned["height"]) == (200, 300)
    assert turned["seen"] == straight["seen"]


@pytest.mark.parametrize("picture", [Image.new("L", (50, 50)), seven()], ids=["blank", "seven"])
def test_a_picture_is_let_go_with_its_request(client, monkeypatch, picture):
    """At once, not at the garbage collector's leisure: a few large ones would fill the memory."""
    pictures = []

    def decode(*arguments):
        picture = predict_decode(*arguments)
        pictures.append(weakref.ref(picture))
        return picture

    predict_decode = predict.decode
    monkeypatch.setattr("app.predict.decode", decode)
    gc.disable()
    try:
        client.post("/api/predict", **body(encode(picture)))
        assert [reference() for reference in pictures] == [None]
    finally:
        gc.enable()


def test_damaged_exif_counts_as_none(client):
    png = encode(seven(), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken")
    assert client.post("/api/predict", **body(png)).status_code == 200


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_large_picture_keeps_its_size_in_the_answer(app, kind):
    photo = encode(seven(size=(3000, 2400)), kind)
    app.config["MAX_PIXELS"], before = 10_000_000, app.config["MAX_PIXELS"]
    try:
        response = app.test_client().post("/api/predict", **body(photo))
    finally:
        app.config["MAX_PIXELS"] = before
    (result,) = response.get_json()["results"]
    assert (result["width"], result["height"]) == (3000, 2400)


@pytest.mark.parametrize("seed", range(200))
def test_mutated_pictures_never_fail_the_server(client, seed):
    chance = random.Random(seed)
    kinds = [SEVEN, JPEG, encode(seven(), "GIF"), encode(seven(), "BMP"), encode(seven(), "WEBP")]
    content = bytearray(chance.choice(kinds))
    for _ in range(chance.randint(1, 20)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    if chance.random() < 0.3:
        del content[chance.randrange(len(content)) :]
    assert client.post("/api/predict", **body(bytes(content))).status_code in (
        200,
        400,
        413,
        415,
        422,
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("get", "/api/predict", 405),
        ("get", "/api/nothing", 404),
        ("get", "/api/models/cats", 404),
        ("delete", "/api/models", 405),
        ("get", "/nothing", 404),
    ],
)
def test_wrong_routes_are_problems_too(client, method, path, status):
    response = getattr(client, method)(path)
    assert response.status_code == status
    assert response.mimetype == "application/problem+json"
    assert ("Allow" in response.headers) == (status == 405)


def test_a_browser_gets_an_error_page(client):
    response = client.get("/nothing", headers={"Accept": "text/html,*/*;q=0.8"})
    assert response.status_code == 404
    assert response.mimetype == "text/html"
    assert "Not Found" in response.text


def test_an_unexpected_error_is_a_problem_without_its_traceback(app, monkeypatch, png):
    def fail(*_):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("app.predict.decode", fail)
    response = app.test_client().post("/api/predict", **body(png))
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.get_json()["title"] == "Internal error"


def test_pictures_past_the_work_that_a_request_may_make_are_refused(store, png, monkeypatch):
    client = create_app({"MODEL_STORE": str(store), "MAX_SECONDS": 1}).test_client()
    clock = [0.0]

    def slow(*arguments):
        clock[0] += 0.6
        return decode(*arguments)

    decode = predict.decode
    monkeypatch.setattr("app.predict.decode", slow)
    monkeypatch.setattr("app.scheduler.time.thread_time", lambda: clock[0])
    response = client.post(
        "/api/predict", data={"file": [(io.BytesIO(png + b"%d" % each), "a") for each in range(5)]}
    )
    results = response.get_json()["results"]
    assert response.status_code == 200
    assert ["error" in result for result in results] == [False, False, True, True, True]
    assert results[-1]["error"]["status"] == 413


def test_a_large_form_needs_no_disk(client, monkeypatch):
    """The disk may be full or read-only: files of a form stay in memory, which a limit keeps."""

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    png = encode(seven(size=(900, 900)), compress_level=0)
    assert len(png) > 600_000
    boundary, body = encode_multipart({"file": FileStorage(io.BytesIO(png), "a.png")})
    monkeypatch.setattr("werkzeug.formparser.SpooledTemporaryFile", full)
    kind = f"multipart/form-data; boundary={boundary}"
    assert client.post("/api/predict", data=body, content_type=kind).status_code == 200


def test_an_avif_file_of_too_many_pieces_is_not_opened() -> None:
    from tasks import avif

    def box(kind: bytes, inner: bytes) -> bytes:
        return (len(inner) + 8).to_bytes(4, "big") + kind + inner

    iloc = box(b"iloc", bytes(6) + b"\0\1" + b"\0\1\0\0\xff\xff")
    with pytest.raises(ValueError, match="too many"):
        avif.check(box(b"ftyp", b"avif") + box(b"meta", bytes(4) + iloc))
