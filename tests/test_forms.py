"""Forms that are nearly right are read, or the answer says what is wrong with them."""

from __future__ import annotations

import base64

import pytest
from samples import encode, seven

SEVEN = encode(seven())
TEXT = base64.b64encode(SEVEN)
FIELD = b'--x\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n3\r\n'
END = b"--x--\r\n"


def part(disposition, content=SEVEN, kind=b"Content-Type: image/png\r\n"):
    head = b"--x\r\nContent-Disposition: form-data" + disposition + b"\r\n" + kind
    return head + b"\r\n" + content + b"\r\n"


FILE = part(b'; name="file"; filename="a.png"')
READ = {
    "as it should be": (FILE + END, ["a.png"]),
    "a name in Latin-1": (
        part('; name="file"; filename="Grüße.png"'.encode("latin-1")) + END,
        ["Grüße.png"],
    ),
    "a name in UTF-8": (part('; name="file"; filename="Grüße.png"'.encode()) + END, ["Grüße.png"]),
    "no end": (FILE, ["a.png"]),
    "no end and no last line break": (FILE[:-2], ["a.png"]),
    "another name": (part(b'; name="picture"; filename="a.png"') + END, ["a.png"]),
    "no name": (part(b'; filename="a.png"') + END, ["a.png"]),
    "neither name nor filename": (part(b"") + END, [None]),
    "no filename": (part(b'; name="file"') + END, [None]),
    "no filename and no type": (part(b'; name="file"', kind=b"") + END, [None]),
    "a text as image": (part(b'; name="image"', TEXT, b"") + END, [None]),
    "a data URL as image": (
        part(b'; name="image"', b"data:image/png;base64," + TEXT, b"") + END,
        [None],
    ),
    "image with a filename": (part(b'; name="image"; filename="a.png"') + END, ["a.png"]),
    "images without filename or type": (part(b'; name="images"', kind=b"") * 2 + END, [None] * 2),
    "files[] without filename or type": (part(b'; name="files[]"', kind=b"") + END, [None]),
    "several names": (
        part(b'; name="image"; filename="a.png"') + part(b'; name="b[]"; filename="b.png"') + END,
        ["a.png", "b.png"],
    ),
    "an input left empty": (FILE + part(b'; name="more"; filename=""', b"") + END, ["a.png"]),
    "line feeds alone": (
        (FILE + END).replace(b"\r\n", b"\n").replace(b"\x89PNG\n", b"\x89PNG\r\n"),
        ["a.png"],
    ),
}


def post(client, body, kind="multipart/form-data; boundary=x"):
    return client.post("/api/predict", data=body, content_type=kind)


@pytest.mark.parametrize("name", READ)
def test_a_form_that_is_nearly_right_is_read(client, name):
    body, names = READ[name]
    response = post(client, FIELD + body)
    assert response.status_code == 200, response.text
    results = response.get_json()["results"]
    assert [result["filename"] for result in results] == names
    assert all(len(result["predictions"]) == 3 for result in results)


@pytest.mark.parametrize(
    ("body", "kind", "word"),
    [
        (FILE + END, "multipart/form-data", "names no boundary"),
        (FILE + END, "multipart/form-data; boundary=yy", "“yy”, is not in it"),
        (SEVEN, "multipart/form-data; boundary=yy", "“yy”, is not in it"),
        (b"--x\r\nHello\r\n\r\n" + SEVEN + b"\r\n" + END, None, "lacks its head"),
        (FILE[:40], None, "lacks its head"),
        (FIELD + END, None, "part named file"),
        (FILE[:300], None, "cut short"),
    ],
)
def test_a_form_that_is_not_is_told_why(client, body, kind, word):
    response = post(client, body, kind or "multipart/form-data; boundary=x")
    assert response.status_code == 400
    assert word in response.get_json()["detail"]


def test_a_form_of_many_boundaries_is_refused_at_once(client):
    assert post(client, b"--x\r\n\xff" * 100_000).status_code == 413
