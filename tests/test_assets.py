"""The pages' files: kept by browsers for as long as they stay the same, and sent compressed."""

from __future__ import annotations

import gzip
import re
from urllib.parse import urljoin

import pytest

GZIP = {"Accept-Encoding": "br, gzip"}


def addresses(client):
    page = client.get("/").text
    found = re.findall(r'(?:href|src)="(/assets/[^"]+)"', page)
    assert len(found) > 10
    return found


def test_every_file_of_a_page_may_be_kept_for_a_year(client):
    for address in addresses(client):
        response = client.get(address)
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_scripts_and_styles_are_sent_compressed_and_say_so(client):
    texts = [each for each in addresses(client) if each.endswith((".js", ".css"))]
    for address in texts:
        plain, small = client.get(address), client.get(address, headers=GZIP)
        assert "Content-Encoding" not in plain.headers
        assert small.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(small.data) == plain.data
        assert len(small.data) < len(plain.data)
        assert small.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"


def test_a_page_is_sent_compressed_but_not_to_those_that_cannot_read_it(client):
    plain = client.get("/docs")
    small = client.get("/docs", headers=GZIP)
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(small.data).decode() == plain.text
    assert int(small.headers["Content-Length"]) == len(small.data) < len(plain.data) / 3
    assert (
        "Content-Encoding"
        not in client.get("/docs", headers={"Accept-Encoding": "gzip;q=0"}).headers
    )


@pytest.mark.parametrize("place", ["/static/", "/assets/", "/assets/0123456789ab/"])
def test_a_file_is_also_found_without_its_name_or_by_an_old_one_but_then_not_kept(client, place):
    response = client.get(f"{place}css/base.css")
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-cache"
    again = client.get(f"{place}css/base.css", headers={"If-None-Match": response.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("path", ["nothing.css", "../app/config.py", "%2e%2e/wsgi.py", "css", ""])
def test_what_is_no_file_of_the_folder_is_not_found(client, path):
    assert client.get(f"/static/{path}").status_code == 404


def test_a_link_to_a_page_shows_with_a_title_and_a_picture(client):
    page = client.get("/").text
    address = re.search(r'property="og:image" content="http://localhost([^"]+)"', page)[1]
    assert client.get(address).data.startswith(b"\x89PNG")
    assert re.search(r'property="og:title" content="Draw a digit"', page)


def test_the_app_can_be_installed(client):
    page = client.get("/").text
    address = re.search(r'rel="manifest" href="([^"]+)"', page)[1]
    manifest = client.get(address)
    assert manifest.mimetype == "application/manifest+json"
    told = manifest.get_json()
    assert urljoin(address, told["start_url"]) == urljoin(address, told["scope"]) == "/"
    for icon in told["icons"]:
        assert client.get(urljoin(address, icon["src"])).status_code == 200


def test_the_service_worker_is_served_where_its_scope_begins_and_asked_for_each_time(client):
    response = client.get("/sw.js")
    assert response.mimetype == "text/javascript"
    assert response.headers["Cache-Control"] == "no-cache"
    name = re.search(r'const VERSION = "?\'?([0-9a-f]{12})', response.text)[1]
    assert f"/assets/{name}/" in client.get("/").text
