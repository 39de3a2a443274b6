import base64
import io
import os
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from anykontext.io import inputs
from anykontext.io.inputs import load
from anykontext.model.errors import InvalidRequest
from anykontext.model.image import ImageSource


def taken(given):
    return load(ImageSource.of(given))


def refused(given):
    with pytest.raises(InvalidRequest) as caught:
        taken(given)
    return str(caught.value)


@pytest.fixture
def photo(tmp_path, jpeg):
    path = tmp_path / "photo.png"  # the wrong suffix: content counts
    path.write_bytes(jpeg)
    return path


def test_a_path_is_read_and_told_by_its_content(photo, jpeg):
    image = taken(photo)
    assert (image.media_type, image.width, image.height) == ("image/jpeg", 640, 427)
    assert image.data == jpeg
    assert "photo.png" in image.name


def test_a_tilde_is_the_home_folder(photo, monkeypatch):
    monkeypatch.setenv("HOME", str(photo.parent))
    assert taken("~/photo.png").media_type == "image/jpeg"


def test_bytes_are_taken_without_a_copy(jpeg):
    assert taken(jpeg).data is jpeg


def test_a_path_of_bytes_is_a_path(photo):
    class Odd:
        def __fspath__(self):
            return os.fsencode(photo)

    assert taken(Odd()).media_type == "image/jpeg"


@pytest.mark.parametrize("head", ["data:image/jpeg;base64,", "DATA:;charset=x;BASE64,", "data:image/png;base64,"])
def test_a_base64_data_uri_is_decoded_and_its_own_type_is_not_believed(jpeg, head):
    image = taken(head + base64.b64encode(jpeg).decode())
    assert (image.data, image.media_type) == (jpeg, "image/jpeg")


def test_a_percent_encoded_data_uri_is_decoded(draw):
    data = draw("PNG")
    assert taken("data:image/png," + quote(data, safe="")).data == data
    assert taken("data:;base64," + quote(base64.b64encode(data).decode(), safe="")).data == data


@pytest.mark.parametrize(
    "uri",
    ["data:image/png;base64", "data:;base64,AAA", "data:;base64,AA AA", "data:;base64,AA-_", "data:,%zz", "data:,é"],
)
def test_f43_a_data_uri_is_read_strictly(uri):
    assert "is no data URI" in refused(uri)


def test_an_open_file_is_read_from_where_it_stands_and_put_back(tmp_path, jpeg):
    path = tmp_path / "two"
    path.write_bytes(b"12345" + jpeg)
    with path.open("rb") as file:
        file.seek(5)
        assert taken(file).data == jpeg
        assert file.tell() == 5
        assert taken(file).data == jpeg


def test_a_pipe_is_read_to_its_end(draw):
    data = draw("PNG")
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as file:
        with os.fdopen(writing, "wb") as end:
            end.write(data)
        assert taken(file).data == data


def test_a_file_opened_as_text_is_refused_with_the_way_out(photo):
    with photo.open(encoding="latin-1") as file:
        assert '"rb"' in refused(file)
    assert '"rb"' in refused(io.StringIO("x"))


def test_a_closed_file_is_refused(jpeg):
    file = io.BytesIO(jpeg)
    file.close()
    assert "closed" in refused(file)


def test_something_whose_read_gives_no_bytes_is_refused():
    class Odd:
        def read(self, _count=-1):
            return "text"

    assert "gives str, not bytes" in refused(Odd())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "LA", "I;16"])
def test_a_pil_image_becomes_a_lossless_png(mode):
    image = Image.linear_gradient("L").resize((20, 10)).convert("RGB" if mode == "P" else mode).convert(mode)
    found = taken(image)
    assert (found.media_type, found.width, found.height) == ("image/png", 20, 10)
    assert Image.open(io.BytesIO(found.data)).convert(mode).tobytes() == image.tobytes()


def test_a_pil_image_in_print_colours_is_taken_too():
    assert taken(Image.new("CMYK", (3, 2))).media_type == "image/png"


def test_a_pil_image_of_floating_point_numbers_is_refused_with_the_way_out():
    assert 'convert("RGB")' in refused(Image.new("F", (3, 2)))


def test_a_pil_image_is_turned_as_its_tag_says_because_the_tag_does_not_travel(draw):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(draw("JPEG", (30, 10), exif=exif))) as image:
        assert (taken(image).width, taken(image).height) == (10, 30)


def test_a_pil_image_keeps_its_colour_profile_and_loses_its_metadata(draw):
    exif = Image.Exif()
    exif[0x010F] = "A camera with a serial number"
    with Image.open(io.BytesIO(draw("JPEG", exif=exif, icc_profile=b"a profile"))) as image:
        found = taken(image)
    assert b"serial number" not in found.data
    assert Image.open(io.BytesIO(found.data)).info["icc_profile"] == b"a profile"


def test_a_pil_image_without_pixels_is_refused():
    assert "no pixels (0 x 5)" in refused(Image.new("RGB", (0, 5)))


def test_a_truncated_pil_image_is_refused(jpeg):
    with Image.open(io.BytesIO(jpeg[:30_000])) as image:
        assert "truncated" in refused(image)


def test_a_url_is_not_fetched():
    image = taken("https://example.org/a.jpg?sig=x")
    assert (image.data, image.url, image.media_type) == (None, "https://example.org/a.jpg?sig=x", None)
    assert "sig" not in image.name


def test_a_missing_file_is_named(tmp_path):
    assert "there is no file" in refused(tmp_path / "cat.jpg")
    assert "cat.jpg" in refused(tmp_path / "cat.jpg")
    assert "neither is there a folder" in refused(tmp_path / "photos" / "cat.jpg")


def test_a_folder_is_no_image(tmp_path):
    assert "is a folder" in refused(tmp_path)


def test_a_device_is_no_image():
    assert "not a regular file" in refused("/dev/zero")


def test_a_file_that_may_not_be_read_is_told(photo, monkeypatch):
    def denied(_self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert "may not be read" in refused(photo)


@pytest.mark.parametrize("text", ["iVBORw0KGgo" * 2000, "a\0b.jpg"])
def test_image_data_given_as_a_path_is_told_without_repeating_it(text):
    message = refused(text)
    assert "data URI" in message
    assert len(message) < 300


@pytest.mark.parametrize("given", [b"", io.BytesIO(b""), "data:,"])
def test_an_empty_image_is_refused(given):
    assert "is empty" in refused(given)


def test_text_is_told_from_an_image():
    assert "this is text, not an image" in refused(b"hello world")
    assert "this is an HTML page, not an image" in refused(b"<html>")


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BMP", "AVIF"])
def test_formats_that_are_converted_later_are_only_recognised(draw, form):
    image = taken(draw(form))
    assert (image.media_type, image.width) == (f"image/{form.lower()}", None)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_image_is_refused_before_anything_is_paid(draw, form):
    assert "cut off" in refused(draw(form)[:-30])


def test_a_damaged_header_is_refused(png):
    assert "damaged PNG" in refused(png[:16] + bytes(8) + png[24:])


def test_more_than_a_hundred_megabytes_are_refused_before_they_are_read(tmp_path, monkeypatch):
    path = tmp_path / "large.jpg"
    with path.open("wb") as file:
        file.truncate(inputs.MAX_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    assert "at most 100.0 MB" in refused(path)
    with path.open("rb") as file:
        assert "at most 100.0 MB" in refused(file)


def test_a_stream_without_end_is_left_when_it_is_too_large(monkeypatch):
    class Endless:
        def read(self, count):
            return bytes(count)

    monkeypatch.setattr(inputs, "MAX_BYTES", 3_000_000)
    assert "too large (3.1 MB" in refused(Endless())


def test_data_and_bytes_that_are_too_large_are_refused(monkeypatch):
    monkeypatch.setattr(inputs, "MAX_BYTES", 1000)
    assert "too large" in refused("data:," + "a" * 4000)
    assert "too large" in refused(b"a" * 1001)
