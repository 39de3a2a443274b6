import io
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anykontext.model.errors import InvalidRequest
from anykontext.model.image import ImageSource, InputImage, sources


class OwnPath:
    def __fspath__(self) -> str:
        return "own.png"


@pytest.mark.parametrize(
    ("given", "form", "value"),
    [
        ("photo.jpg", "path", "photo.jpg"),
        ("C:\\photo.jpg", "path", "C:\\photo.jpg"),
        ("a:b.jpg", "path", "a:b.jpg"),
        (Path("photo.jpg"), "path", "photo.jpg"),
        (OwnPath(), "path", "own.png"),
        (b"\xff\xd8", "bytes", b"\xff\xd8"),
        (bytearray(b"ab"), "bytes", b"ab"),
        (memoryview(b"ab"), "bytes", b"ab"),
        ("https://x.example/a.png?x=1", "url", "https://x.example/a.png?x=1"),
        ("HTTP://x.example/a.png", "url", "HTTP://x.example/a.png"),
        ("data:image/png;base64,eA==", "data", "data:image/png;base64,eA=="),
        ("DATA:image/png;base64,eA==", "data", "DATA:image/png;base64,eA=="),
    ],
)
def test_what_was_handed_over_is_told_by_its_type_and_first_letters(given: Any, form: str, value: Any) -> None:
    found = ImageSource.of(given)

    assert (form, value) == (found.form, found.value)


@pytest.mark.parametrize(
    ("given", "form"), [(io.BytesIO(b"x"), "file"), (Image.new("RGB", (1, 1)), "pil")], ids=["file", "pil"]
)
def test_files_and_pil_images_are_kept_as_they_are(given: Any, form: str) -> None:
    found = ImageSource.of(given)

    assert form == found.form
    assert given is found.value
    assert found is ImageSource.of(found)


@pytest.mark.parametrize("given", [None, 7, 1.5, {}, object(), "", "  ", "ftp://x.example/a", "file:///etc/passwd"])
def test_anything_else_is_an_invalid_request(given: Any) -> None:
    with pytest.raises(InvalidRequest):
        ImageSource.of(given)


def test_one_image_or_a_list_of_them() -> None:
    assert 1 == len(sources(b"x"))
    assert ["bytes", "path"] == [one.form for one in sources([b"x", "a.png"])]
    assert () == sources(())


def test_names_for_messages_hold_no_bytes_and_no_query() -> None:
    names = [ImageSource.of(one).name for one in ("a.png", "https://x.example/a?sig=hush", b"SECRET")]

    assert ["'a.png'", "'https://x.example/a'", "the image given as bytes"] == names


def test_no_repr_holds_the_picture() -> None:
    assert "SECRET" not in repr(ImageSource.of(b"SECRET"))
    assert "SECRET" not in repr(InputImage(b"SECRET", "https://x.example/?SECRET", "image/png", 1, 1))


def test_a_path_object_is_not_opened() -> None:
    assert "missing.png" == os.fspath(ImageSource.of(Path("missing.png")).value)
