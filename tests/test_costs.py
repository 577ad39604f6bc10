"""What a request costs is known before it is done, and what a worker holds has limits."""

from __future__ import annotations

import base64
import io
import itertools
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image
from samples import ByLight, encode, face_card, script, seven

from app import api, create_app, predict
from app.body import HELD, PIECE, SMALL
from app.predict import Options, Upload
from model_store import save
from tasks.decode import MUCH, decode, header

TOP = Path(__file__).parent.parent
TENSOR = "/v2/models/digits/infer"


@pytest.fixture(scope="module")
def models(app, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    save(script(ByLight()), face_card(), root / "emotions")
    faces = create_app({"MODEL_STORE": str(root), "DEFAULT_MODEL": "emotions"})
    both = {**app.extensions["models"].ready, **faces.extensions["models"].ready}
    return {model.task.name: model for model in both.values()}


@pytest.fixture
def decoded(monkeypatch):
    """The pictures that are decoded, in their order."""
    contents = []

    def note(content, most):
        contents.append(content)
        return decode(content, most)

    monkeypatch.setattr(predict, "decode", note)
    return contents


@pytest.fixture
def with_settings(app, monkeypatch):
    """A client of the app with other settings."""

    def client(**settings):
        for name, value in settings.items():
            monkeypatch.setitem(app.config, name, value)
        return app.test_client()

    return client


def form(*contents):
    return {"file": [(io.BytesIO(each), f"{number}.png") for number, each in enumerate(contents)]}


def images(*contents):
    return {"images": [base64.b64encode(each).decode() for each in contents]}


def is_busy(response):
    assert response.status_code == 503
    assert response.mimetype == "application/problem+json"
    assert response.get_json()["type"] == "urn:glimpse:problem:busy"
    assert int(response.headers["Retry-After"]) > 0
    return True


# --- light and heavy --------------------------------------------------------------------------

WEBP = encode(Image.new("RGB", (2000, 2000)), "WEBP", lossless=True)
PNG = encode(Image.new("1", (2000, 2000)))
SMALL_PHOTO, PHOTO = (encode(seven(size=(size, size)), "JPEG") for size in (200, 400))
LIGHT = {
    "a digit": ("digit", [encode(seven())], {}, True),
    "no picture": ("digit", [b"x"], {}, True),
    "two digits": ("digit", [encode(seven())] * 2, {}, False),
    "few bytes of many pixels, WebP": ("digit", [WEBP], {}, False),
    "few bytes of many pixels, PNG": ("digit", [PNG], {}, False),
    "many bytes of few pixels": ("digit", [encode(seven()) + bytes(SMALL)], {}, False),
    "a digit to explain": ("digit", [encode(seven())], {"explain": True}, False),
    "a small photo in which faces are found": ("face", [SMALL_PHOTO], {}, True),
    "a photo in which faces are found": ("face", [PHOTO], {}, False),
    "a photo that is one face": ("face", [PHOTO], {"whole": True}, True),
}


@pytest.mark.parametrize("kind", LIGHT)
def test_a_request_is_light_by_what_it_takes_to_answer_it(models, monkeypatch, kind):
    task, contents, options, expected = LIGHT[kind]
    found = []

    class Seen(Exception):
        pass

    def work(*, light, **_):
        found.append(light)
        raise Seen

    monkeypatch.setattr(predict, "work", work)
    with pytest.raises(Seen):
        predict.predict(models[task], list(map(Upload, contents)), Options(10**8, **options))
    assert found == [expected]


def test_the_small_files_of_many_pixels_are_small():
    assert max(map(len, (WEBP, PNG))) < SMALL


@pytest.mark.parametrize("size", [SMALL - 1000, SMALL + 1])
def test_one_large_body_is_read_at_a_time(client, monkeypatch, size):
    busy = []

    def read(content):
        busy.append(predict.SCHEDULER.heavy.busy)
        return read_body(content)

    read_body = api._read
    monkeypatch.setattr(api, "_read", read)
    client.post("/api/predict", data=bytes(size), content_type="image/png")
    assert busy == [size > SMALL]


# --- one picture after the other --------------------------------------------------------------


def test_the_same_picture_is_decoded_and_classified_once_and_answered_each_time(
    client, models, decoded, monkeypatch
):
    sizes = []
    network = models["digit"].network

    def count(pixels):
        sizes.append(len(pixels))
        return network(pixels)

    monkeypatch.setitem(models["digit"].__dict__, "network", count)
    one, other = encode(seven()), encode(seven(size=(100, 100)))
    response = client.post("/api/predict", data=form(one, other, one, b"x", one, b"x"))
    results = response.get_json()["results"]
    assert decoded == [one, other, b"x"]
    assert sizes == [2]
    assert [each["filename"] for each in results] == [f"{number}.png" for number in range(6)]
    assert [each.get("width") for each in results] == [280, 100, 280, None, 280, None]
    names = {"filename": None}
    assert {**results[0], **names} == {**results[2], **names} == {**results[4], **names}
    assert results[3]["error"] == results[5]["error"]


def test_copies_count_among_the_subjects_that_are_answered(client, png, monkeypatch):
    monkeypatch.setattr(predict, "MOST_SUBJECTS", 2)
    results = client.post("/api/predict", json=images(*[png] * 5)).get_json()["results"]
    assert ["error" in each for each in results] == [False, False, False, True, True]


def test_subjects_to_explain_count_more(client, monkeypatch):
    monkeypatch.setattr(predict, "MOST_SUBJECTS", predict.EXPLAINED)
    sent = images(*(encode(seven(size=(size, 100))) for size in (100, 101, 102)))
    for explain, failed in ((False, []), (True, [2])):
        response = client.post(f"/api/predict?explain={explain}", json=sent)
        results = response.get_json()["results"]
        assert [number for number, each in enumerate(results) if "error" in each] == failed


def test_a_request_has_a_limit_for_the_pixels_of_all_its_pictures(with_settings, decoded):
    contents = [encode(seven(size=(100, 100 + more))) for more in range(4)]
    client = with_settings(MAX_PIXELS_IN_ALL=30_500)
    sent = images(contents[0], contents[0], *contents)  # a copy costs nothing
    results = client.post("/api/predict", json=sent).get_json()["results"]
    assert decoded == contents[:3]
    assert [number for number, each in enumerate(results) if "error" in each] == [5]
    assert results[5]["error"]["status"] == 413
    assert "another request" in results[5]["error"]["detail"]


def test_pictures_that_show_nothing_count_as_well(with_settings, decoded):
    blank = [encode(Image.new("L", (100, 100 + more))) for more in range(4)]
    client = with_settings(MAX_PIXELS_IN_ALL=20_500)
    assert client.post("/api/predict", json=images(*blank)).status_code == 422
    assert decoded == blank[:2]


def test_a_picture_that_is_too_large_by_itself_takes_nothing_from_the_others(with_settings, png):
    client = with_settings(MAX_PIXELS=100_000, MAX_PIXELS_IN_ALL=100_000)
    large = encode(Image.new("1", (2000, 2000)))
    results = client.post("/api/predict", json=images(large, png)).get_json()["results"]
    assert "smaller size" in results[0]["error"]["detail"]
    assert results[1]["label"]


def test_a_picture_whose_decoder_takes_much_memory_may_have_fewer_pixels(
    with_settings, monkeypatch
):
    monkeypatch.setattr(predict, "MOST_OF_HUNGRY", 1_000_000)
    client = with_settings(MAX_PIXELS=4_000_000)
    for content, status in ((WEBP, 413), (PNG, 422)):
        response = client.post("/api/predict", data=content, content_type="image/png")
        assert response.status_code == status


def test_a_long_narrow_picture_is_reduced_too():
    picture = decode(encode(Image.new("1", (20_000, 1900))), 10**8)
    assert picture.image.width * picture.image.height < 2 * MUCH
    assert (picture.width, picture.height) == (20_000, 1900)


def test_a_header_is_read_without_the_pixels(png):
    assert header(png[:100]) == ("PNG", 280 * 280)
    assert header(WEBP) == ("WEBP", 4_000_000)
    assert header(b"x") == ("", 0)


# --- what a worker holds ----------------------------------------------------------------------


@pytest.fixture
def full(with_settings):
    """A client of a server that holds as much as it may."""
    client = with_settings(MAX_HELD=500_000, MAX_BYTES=500_000)
    HELD.add(500_000, 500_000)
    yield client
    HELD.remove(500_000)
    assert HELD.bytes == 0  # what the requests have held is free again


class Endless:
    """A body that does not end, and how much of it was read."""

    taken = 0

    def read(self, size=-1):
        assert 0 < size <= PIECE
        self.taken += size
        return bytes(size)


@pytest.mark.parametrize(("length", "most"), [(400_000, 0), (None, PIECE)])
@pytest.mark.parametrize("path", ["/api/predict", TENSOR])
def test_a_body_that_finds_no_room_is_refused_as_soon_as_that_is_known(full, path, length, most):
    stream = Endless()
    environment = {"wsgi.input": stream, "wsgi.input_terminated": True}
    if length:
        environment["CONTENT_LENGTH"] = str(length)
    assert is_busy(full.post(path, content_type="image/png", environ_overrides=environment))
    assert stream.taken == most


@pytest.mark.parametrize(("length", "status"), [(99_999, 400), (100_000, 413), (10**9, 413)])
def test_a_body_without_a_length_is_read_up_to_the_limit(with_settings, length, status):
    client = with_settings(MAX_BYTES=100_000, MAX_CONTENT_LENGTH=100_000)
    stream = io.BytesIO(bytes(min(length, 200_000)))
    environment = {"wsgi.input": stream, "wsgi.input_terminated": True}
    response = client.post("/api/predict", content_type="image/png", environ_overrides=environment)
    assert response.status_code == status


def test_small_requests_find_room_in_a_full_server(full, png):
    assert full.post("/api/predict", data=png, content_type="image/png").status_code == 200


def test_what_a_request_holds_is_free_after_it(with_settings, png):
    client = with_settings(MAX_HELD=500_000, MAX_BYTES=500_000)
    content = png + bytes(400_000)
    for status, sent in ((200, content), (400, b"x" * 400_000), (200, content)):
        response = client.post("/api/predict", data=sent, content_type="image/png")
        assert response.status_code == status
        assert HELD.bytes == 0


def test_a_body_of_the_largest_size_always_finds_room_where_it_is_alone(with_settings, png):
    client = with_settings(MAX_HELD=1)
    response = client.post("/api/predict", data=png + bytes(400_000), content_type="image/png")
    assert response.status_code == 200


def test_a_client_that_leaves_midway_holds_nothing(client, png):
    environment = {"wsgi.input": io.BytesIO(bytes(200_000)), "CONTENT_LENGTH": "300000"}
    response = client.post("/api/predict", content_type="image/png", environ_overrides=environment)
    assert response.status_code == 400
    assert HELD.bytes == 0


def test_names_of_unknown_parameters_are_repeated_shortened(client, png):
    response = client.post("/api/predict", json={**images(png), "x" * 100_000: 1})
    assert response.get_json()["ignored"] == ["x" * 255]


# --- JSON that is larger in memory than on the wire -------------------------------------------


def peak(send):
    """The answer, and the most bytes that Python's objects took for it."""
    tracemalloc.start()
    try:
        return send(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def tensor(data):
    head = (
        b'{"inputs": [{"name": "pictures", "datatype": "UINT8", "shape": [200, 1, 28, 28], "data": '
    )
    return head + data + b"}]}"


COUNT = 200 * 28 * 28
OTHER = {
    "texts among numbers": b"[" + b"0," * (COUNT - 1) + b'"%s"]' % (b"x" * 60_000),
    "texts": b"[" + b'"a",' * (COUNT - 1) + b'"a"]',
    "fractions": b"[" + b"1.5," * (COUNT - 1) + b"1]",
    "large numbers": b"[" + b"1000000," * (COUNT - 1) + b"1]",
    "giant numbers": b"[" + b"9" * (3 * COUNT) + b"]",
    "empty lists": b"[" + b"[]," * (COUNT - 1) + b"1]",
    "lists": b"[" + b"[1]," * (2 * COUNT - 1) + b"[1]]",
    "objects": b"[" + b"{}," * (COUNT - 1) + b"1]",
    "truths": b"[" + b"true," * (COUNT - 1) + b"true]",
    "below 0": b"[" + b"1," * (COUNT - 1) + b"-1]",
    "exponents": b"[" + b"1," * (COUNT - 1) + b"1e2]",
    "one too few": b"[" + b"1," * (COUNT - 2) + b"1]",
    "an empty list for a number": b"[" + b"1," * (COUNT - 1) + b"[]]",
    "an empty list first": b"[[]," + b"1," * (COUNT - 2) + b"1]",
    "256": b"[" + b"1," * (COUNT - 1) + b"256]",
    "a text": b'"%s"' % (b"x" * COUNT),
    "a number": b"1",
}


@pytest.mark.parametrize("kind", OTHER)
def test_what_is_no_number_in_a_tensor_takes_little_more_than_its_bytes(with_settings, kind):
    client, body = with_settings(), tensor(OTHER[kind])
    response, most = peak(lambda: client.post(TENSOR, data=body, content_type="application/json"))
    assert response.status_code == 400
    assert f"{COUNT} whole numbers from 0 to 255" in response.get_json()["detail"]
    assert most < 12 * len(body) + 500_000


@pytest.mark.parametrize("data", [b"[%s]", b"[[[%s]]]", b" [ [ %s\n ] ] "])
def test_whole_numbers_are_taken_flat_or_nested(client, data):
    one = {"name": "pictures", "datatype": "UINT8", "shape": [1, 1, 28, 28], "data": 0}
    body = json.dumps({"inputs": [one]}).encode()
    numbers = b", ".join(b"%d" % (number % 256) for number in range(784))
    answers = []
    for sent in (b"[%s]", data):
        whole = body.replace(b'"data": 0', b'"data": ' + sent % numbers)
        answers.append(client.post(TENSOR, data=whole, content_type="application/json"))
    assert [each.status_code for each in answers] == [200, 200]
    assert answers[0].get_json() == answers[1].get_json()


def test_percent_encoded_base64_takes_little_more_than_its_bytes(client):
    text = "".join(f"%{ord(sign):02X}" for sign in "iVBORw0K") * 60_000
    body = {"image": f"data:image/png;base64,{text}"}
    response, most = peak(lambda: client.post("/api/predict", json=body))
    assert response.status_code == 400
    assert most < 12 * len(text)


@pytest.mark.parametrize("between", ["\n", "\r\n", " ", "%0A", "%0d%0a", "%20"])
def test_base64_may_be_broken_into_lines_and_percent_encoded(client, between):
    png = next(  # one that holds both special signs
        content
        for content in (encode(seven(size=(280, height))) for height in itertools.count(100))
        if {*"+/"} <= {*base64.b64encode(content).decode()}
    )
    text = base64.b64encode(png).decode()
    lines = [text[at : at + 60] for at in range(0, len(text), 60)]
    if between.startswith("%"):
        lines = [quote(line, safe="") for line in lines]
    text = between.join(lines)
    response = client.post("/api/predict", json={"image": f"data:image/png;base64,{text}"})
    assert response.status_code == 200


@pytest.mark.parametrize("value", ["[]", "{}", "0", '"a"'])
def test_json_of_very_many_values_is_refused_before_they_are_made(client, value):
    body = b'{"image": "eA==", "x": [%s]}' % ",".join([value] * 300_000).encode()
    response, most = peak(
        lambda: client.post("/api/predict", data=body, content_type="application/json")
    )
    assert response.status_code == 400
    assert "10000 values" in response.get_json()["detail"]
    assert most < 5 * len(body)


def test_base64_of_white_space_takes_little_more_than_its_bytes(client):
    response, most = peak(lambda: client.post("/api/predict", json={"image": "A " * 500_000}))
    assert response.status_code == 400
    assert most < 12_000_000


# --- memory that runs out, networks that fail -------------------------------------------------


def test_a_picture_for_which_memory_runs_out_is_asked_for_at_a_smaller_size(client, monkeypatch):
    monkeypatch.setattr("tasks.decode._eight_bits", failing(MemoryError()))
    response = client.post("/api/predict", data=encode(seven()), content_type="image/png")
    assert is_busy(response)
    assert "smaller size" in response.get_json()["detail"]


SCARCE = """
import io, resource, sys
from pathlib import Path
from PIL import Image
from tasks.decode import decode
from tasks.problems import Busy

def encoded(picture, kind):
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()

small, large = (encoded(Image.new("L", (size, size)), sys.argv[1]) for size in (100, 7000))
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 20_000_000,) * 2)
decode(small, 10**8)
try:
    decode(large, 10**8)
except Busy as problem:
    print(problem.detail)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_memory_that_runs_out_is_not_taken_for_a_damaged_picture(kind):
    command = [sys.executable, "-c", SCARCE, kind]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True)
    assert "smaller size" in done.stdout


@pytest.mark.parametrize(
    "place", ["app.api.whole_body", "app.api._read", "app.predict.np.stack", "app.predict.rank"]
)
def test_memory_that_runs_out_anywhere_is_no_fault_of_the_server(client, png, monkeypatch, place):
    monkeypatch.setattr(place, failing(MemoryError()))
    assert is_busy(client.post("/api/predict", data=png, content_type="image/png"))


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("path", ["/api/predict", TENSOR])
def test_a_network_that_fails_is_not_ready(client, models, monkeypatch, path, count):
    one = {"name": "pictures", "datatype": "UINT8", "shape": [count, 1, 28, 28]}
    contents = [encode(seven(size=(60, 60 + number))) for number in range(count)]
    sent = images(*contents) if path != TENSOR else {"inputs": [{**one, "data": [0] * 784 * count}]}
    monkeypatch.setitem(models["digit"].__dict__, "network", failing(RuntimeError("broken")))
    response = client.post(path, json=sent)
    assert response.status_code == 503
    assert response.get_json()["title"] == "Not ready"
    assert "broken" not in response.text
    monkeypatch.setitem(models["digit"].__dict__, "network", failing(MemoryError()))
    assert is_busy(client.post(path, json=sent))


def test_the_log_says_why_a_network_failed(client, png, models, monkeypatch, caplog):
    monkeypatch.setitem(models["digit"].__dict__, "network", failing(RuntimeError("broken")))
    client.post("/api/predict", data=png, content_type="image/png")
    assert "broken" in caplog.text


def test_an_explanation_that_fails_is_not_ready_either(client, png, models, monkeypatch, caplog):
    monkeypatch.setitem(models["digit"].__dict__, "explainer", failing(RuntimeError("broken")))
    response = client.post("/api/predict?explain=1", data=png, content_type="image/png")
    assert response.status_code == 503
    assert response.get_json()["title"] == "Not ready"
    assert "broken" in caplog.text


def test_a_body_that_is_never_taken_is_told_so_and_not_to_come_again(client):
    sent = client.post(
        "/api/predict", content_type="image/png", environ_overrides={"CONTENT_LENGTH": "200000000"}
    )
    assert sent.status_code == 413
    assert "Retry-After" not in sent.headers
