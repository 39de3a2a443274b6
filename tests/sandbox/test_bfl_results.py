"""What BFL's emulator makes of images, and how it delivers (bfl sheet §3.1, §6)."""

import base64
import hashlib
import io
import re
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

pytestmark = pytest.mark.sandbox

RECORDED = (  # of payload 7 in bfl sheet §10
    "https://bfldeliveryprodeu4.blob.core.windows.net/results/8e/3470338ce49379/8ce49379183c4d1eaf3900e161a9839e/"
    "sample.jpeg?se=2025-12-18T15%3A49%3A07Z&sp=r&sv=2024-11-04&sr=b&rsct=image/jpeg&sig="
    "TCGRVM3fn0TzwZwvuRPy5uRe2ySXpdoQgJJebQcaINw%3D"
)


def photo(width: int = 96, height: int = 64, image_format: str = "jpeg") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "orange").save(buffer, image_format)
    return buffer.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "image",
    [
        base64_of(b"no picture"),
        "data:image/jpeg;base64," + base64_of(photo()),
        "no base64!",
        "",
        "https://localhost.invalid/a.png",
        "http://127.0.0.1:9/a.png",
        base64_of(photo(16, 16, "tiff")),
        base64_of(photo(5000, 4001)),
    ],
)
def test_an_image_that_bfl_cannot_use_fails_the_task_late_and_free(bfl: Any, image: str) -> None:
    url = bfl.submit(input_image=image)
    assert bfl.client.get(url).json()["status"] == "Pending"
    bfl.emulator.advance(1000)
    reply = bfl.client.get(url)

    assert reply.status_code == 422
    assert reply.json()["status"] == "Error"
    assert reply.json()["details"] == {"error": "Invalid or corrupted image input"}
    assert bfl.credits() == 1000.0


def test_an_image_is_fetched_from_a_url_on_this_machine(bfl: Any) -> None:
    bfl.emulator.seconds = 1  # shorter than a URL's life: the clock is moved by it
    served = bfl.sample(bfl.submit(output_format="jpeg"))

    assert bfl.finished(bfl.submit(input_image=served)).json()["status"] == "Ready"


def download(bfl: Any, **fields: Any) -> tuple[httpx.Response, Image.Image]:
    reply = bfl.client.get(bfl.sample(bfl.submit(**fields)))
    return reply, Image.open(io.BytesIO(reply.content))


def test_a_signed_url_has_the_recorded_form(bfl: Any) -> None:
    sample = urlsplit(bfl.sample(bfl.submit(output_format="jpeg")))
    recorded = urlsplit(RECORDED)
    form = r"se=[\d-]{10}T\d\d%3A\d\d%3A\d\dZ&sp=r&sv=2024-11-04&sr=b&rsct=image/jpeg&sig=[\w%]+%3D"

    assert re.fullmatch(form, recorded.query)
    assert re.fullmatch(form, sample.query)
    assert "%2B" in sample.query
    assert "%2F" in sample.query
    assert re.sub("[0-9a-f]", "x", sample.path.split("/")[3]) == "x" * 14
    assert sample.path.count("/") == recorded.path.count("/")


@pytest.mark.parametrize(("escaped", "bare"), [("%2B", "+"), ("%2F", "/"), ("%3D", "="), ("%2B", "%2b"), ("/", "%2F")])
def test_a_reencoded_signature_is_refused(bfl: Any, escaped: str, bare: str) -> None:
    """Quirk of bfl sheet §6."""
    sample = bfl.sample(bfl.submit())
    path, query = sample.split("?")
    target = f"{urlsplit(path).path}?{query.replace(escaped, bare)}"
    reply = bfl.client.send(
        bfl.client.build_request("GET", sample, extensions={"target": target.encode()}),
    )

    assert bfl.client.get(sample).status_code == 200
    assert reply.status_code == 403
    assert "<Code>AuthenticationFailed</Code>" in reply.text


def test_a_url_expires_after_ten_minutes_and_a_new_poll_renews_it(bfl: Any) -> None:
    """Quirk of bfl sheet §13.13."""
    url = bfl.submit()
    first = bfl.sample(url)
    bfl.emulator.advance(595)
    assert bfl.client.get(first).status_code == 200
    bfl.emulator.advance(6)
    assert bfl.client.get(first).status_code == 403

    second = bfl.client.get(url).json()["result"]["sample"]
    assert bfl.client.get(second).status_code == 200
    assert urlsplit(second).path == urlsplit(first).path


def test_a_download_has_azures_headers(bfl: Any) -> None:
    reply, _ = download(bfl, output_format="webp")

    assert reply.headers["content-type"] == "image/webp"
    assert reply.headers["server"].startswith("Windows-Azure-Blob")
    assert base64.b64decode(reply.headers["content-md5"]) == hashlib.md5(reply.content).digest()
    assert reply.headers["etag"]


@pytest.mark.parametrize("header", ["x-key", "Authorization"])
def test_a_key_at_the_delivery_host_is_counted(bfl: Any, header: str) -> None:
    sample = bfl.sample(bfl.submit())
    bfl.client.get(sample)
    assert bfl.emulator.counters["key_leaks"] == 0

    bfl.client.get(sample, headers={header: "sandbox"})
    assert bfl.emulator.counters["key_leaks"] == 1


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        ("flux-kontext-pro", {}, "PNG"),
        ("flux-kontext-pro", {"output_format": None}, "PNG"),
        ("flux-kontext-max", {"output_format": "jpeg"}, "JPEG"),
        ("flux-pro-1.1", {}, "JPEG"),
        ("flux-pro-1.1-ultra", {"output_format": "webp"}, "WEBP"),
    ],
)
def test_the_default_format_is_png_at_kontext_only(bfl: Any, model: str, fields: Any, expected: str) -> None:
    """Quirk of bfl sheet §13.15."""
    _, image = download(bfl, model=model, **fields)

    assert image.format == expected


@pytest.mark.parametrize(
    ("model", "fields", "size"),
    [
        ("flux-kontext-pro", {}, (1024, 1024)),
        ("flux-kontext-pro", {"aspect_ratio": "16:9"}, (1360, 768)),
        ("flux-kontext-pro", {"input_image": base64_of(photo(300, 200))}, (1248, 832)),
        ("flux-pro-1.1", {}, (1024, 768)),
        ("flux-pro-1.1", {"width": 256, "height": 1440}, (256, 1440)),
        ("flux-pro-1.1-ultra", {}, (1360, 768)),
    ],
)
def test_the_size_follows_the_request_and_the_input(bfl: Any, model: str, fields: Any, size: tuple[int, int]) -> None:
    bfl.emulator.megapixels = 1.0
    _, image = download(bfl, model=model, output_format="jpeg", **fields)

    assert image.size == size


def test_the_picture_is_really_edited_and_the_same_for_a_seed(bfl: Any) -> None:
    fields = {"input_image": base64_of(photo()), "output_format": "png", "seed": 7}
    replies = [download(bfl, prompt=prompt, **fields)[0].content for prompt in ("blue", "blue", "noir")]

    assert replies[0] == replies[1] != replies[2]


def test_four_images_are_composed(bfl: Any) -> None:
    names = ("input_image", "input_image_2", "input_image_3", "input_image_4")
    _, image = download(bfl, **dict.fromkeys(names, base64_of(photo(60, 60))))

    assert image.width == pytest.approx(4 * image.height, rel=0.1)
