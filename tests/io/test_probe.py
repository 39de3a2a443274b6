import contextlib
import struct
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from anykontext.io.probe import NotAPicture, Picture, complete, describe, probe

SIZE = (31, 17)


def test_a_jpeg_tells_its_size(jpeg):
    assert probe(jpeg) == Picture("image/jpeg", 640, 427)


def test_a_png_tells_its_size(png):
    assert probe(png) == Picture("image/png", 600, 400)


def test_webp_in_all_three_forms_tells_its_size(webps):
    assert [data[12:16] for data in webps] == [b"VP8 ", b"VP8L", b"VP8X"]
    assert {probe(data) for data in webps} == {Picture("image/webp", *SIZE)}


@pytest.mark.parametrize("option", ["progressive", "optimize", "restart_marker_rows", "keep_rgb"])
def test_every_kind_of_jpeg_is_read_and_whole(draw, option):
    data = draw("JPEG", **{option: 1})
    assert probe(data) == Picture("image/jpeg", *SIZE)
    assert complete(data, probe(data)) is None


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BMP", "AVIF"])
def test_other_formats_are_recognised_by_content_without_a_size(draw, form):
    found = probe(draw(form))
    assert found == Picture(f"image/{form.lower()}", None, None)
    assert found.name == form


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_is_recognised(brand):
    assert probe(struct.pack(">I4s4sI4s", 20, b"ftyp", brand, 0, b"heic")).media_type == "image/heic"


def test_avif_that_calls_itself_mif1_is_recognised_by_its_other_brands():
    assert probe(struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"mif1", 0, b"mif1", b"avif")).media_type == "image/avif"


def test_the_size_is_that_of_the_picture_and_not_of_its_thumbnail(draw, jpeg):
    thumbnail = draw("JPEG", (8, 8))
    exif = b"Exif\0\0" + thumbnail
    data = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    assert probe(data) == Picture("image/jpeg", 640, 427)
    cut = data[: len(exif) + 2000]
    assert "cut off" in (complete(cut, probe(cut)) or "")


def test_stray_and_fill_bytes_between_segments_are_passed_over_as_decoders_do(jpeg):
    data = jpeg[:2] + b"\x00\x12\xff\xff\xff\xff" + jpeg[3:]
    assert probe(data) == Picture("image/jpeg", 640, 427)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "nothing"),
        (b"hello, world", "text"),
        ("héllo ".encode() * 300, "text"),
        (b"\n <!DOCTYPE html><html>", "an HTML page"),
        (b"<svg xmlns=''/>", "an SVG drawing"),
        (b'{"error": 1}', "JSON"),
        (b"%PDF-1.7 ...", "a PDF"),
        (b"\x1f\x8b\x08\x00", "gzip data"),
        (b"BMW is a maker of cars, and this is a text", "text"),
        (bytes(range(256)), "unknown format"),
    ],
)
def test_what_is_no_picture_is_named_in_words(data, words):
    assert words in describe(data)
    with pytest.raises(NotAPicture, match=words):
        probe(data)


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBPVP8 ", b"RIFF\0\0\0\0WEBP"]
)
def test_a_header_that_ends_too_early_is_told_from_a_damaged_one(data):
    with pytest.raises(NotAPicture, match="cut off") as caught:
        probe(data)
    assert caught.value.cut


def test_a_picture_without_pixels_is_damaged(png):
    with pytest.raises(NotAPicture, match="0 x 400") as caught:
        probe(png[:16] + bytes(4) + png[20:])
    assert not caught.value.cut


def test_whole_pictures_are_complete(jpeg, png, webps):
    assert [complete(data, probe(data)) for data in (jpeg, png, *webps)] == [None] * 5


def test_something_after_the_end_does_no_harm(jpeg, png, webps):
    for data in (jpeg, png, *webps):
        assert complete(data + b"JOB:1", probe(data)) is None


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_a_truncated_picture_is_told_from_a_whole_one(jpeg, png, webps, share):
    for data in (jpeg, png, *webps):
        cut = data[: int(len(data) * share)]
        assert "cut off" in (complete(cut, probe(data)) or "whole")


def test_a_flood_of_segments_or_chunks_ends_soon(png):
    started = time.perf_counter()
    with pytest.raises(NotAPicture, match="more segments"):
        probe(b"\xff\xd8" + b"\xff\xe0\x00\x02" * 2_000_000)
    with pytest.raises(NotAPicture, match="cut off"):
        probe(b"\xff\xd8" + b"\xff" * 8_000_000)
    with pytest.raises(NotAPicture, match="more chunks"):
        complete(png[:33] + b"\0\0\0\0abcd\0\0\0\0" * 500_000, probe(png))
    assert time.perf_counter() - started < 2


def judged(data):
    """Whatever the bytes are, there is an answer or NotAPicture."""
    with contextlib.suppress(NotAPicture):
        found = complete(data, probe(data))
        assert found is None or found


BEGINNINGS = [
    b"\xff\xd8",
    b"\xff\xd8\xff\xc0",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\0\0\0\0WEBPVP8",
    b"\0\0\0 ftyp",
    b"BM",
    b"",
]


@given(st.sampled_from(BEGINNINGS), st.binary(max_size=200))
@example(b"\xff\xd8\xff", b"")
def test_any_bytes_are_judged_and_never_crash(beginning, rest):
    judged(beginning + rest)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_any_mutation_of_a_real_picture_is_judged_and_never_crashes(mutated, data):
    judged(data.draw(mutated))
