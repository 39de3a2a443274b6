import hashlib
import io
import logging
import os
import threading
from pathlib import Path

import pytest
from PIL import Image

from anykontext.io.files import decode, media_type_of, save_image, suffix_of, write_atomically
from anykontext.model.errors import InvalidRequest


@pytest.fixture
def stored(tmp_path, jpeg):
    path = tmp_path / "spool" / "stored"
    path.parent.mkdir()
    path.write_bytes(jpeg)
    return path


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def no_links(monkeypatch):
    """A file system without hard links."""

    def refuse(_self, _target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)


def save(stored, target, *, overwrite=False, media_type="image/jpeg"):
    return save_image(stored, media_type, target, overwrite=overwrite)


def test_a_file_is_written_whole_and_nothing_else_stays(out):
    write_atomically(out / "a.jpg", b"whole", overwrite=False)
    assert [(path.name, path.read_bytes()) for path in out.iterdir()] == [("a.jpg", b"whole")]


def test_a_saved_file_has_the_rights_that_the_users_umask_gives(out):
    write_atomically(out / "a.jpg", b"x", overwrite=False)
    (out / "b").touch()
    assert (out / "a.jpg").stat().st_mode == (out / "b").stat().st_mode


def test_an_existing_file_is_not_replaced_and_the_way_out_is_told(out):
    (out / "a.jpg").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"a\.jpg' exists; .*overwrite=True"):
        write_atomically(out / "a.jpg", b"new", overwrite=False)
    assert (out / "a.jpg").read_bytes() == b"mine"


def test_an_existing_file_is_replaced_when_asked(out):
    (out / "a.jpg").write_bytes(b"mine")
    write_atomically(out / "a.jpg", b"new", overwrite=True)
    assert (out / "a.jpg").read_bytes() == b"new"


def appears_while_the_other_is_written(monkeypatch, path):
    """Another process creates the file just before ours gets its name."""
    real = os.fsync

    def fsync(handle):
        real(handle)
        if not path.exists():
            path.write_bytes(b"theirs")

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_never_replaced(out, monkeypatch, request, links):
    if not links:
        request.getfixturevalue("no_links")
    appears_while_the_other_is_written(monkeypatch, out / "a.jpg")
    with pytest.raises(FileExistsError):
        write_atomically(out / "a.jpg", b"ours", overwrite=False)
    assert [(path.name, path.read_bytes()) for path in out.iterdir()] == [("a.jpg", b"theirs")]


@pytest.mark.parametrize("links", [True, False])
def test_of_many_writers_at_once_exactly_one_wins(out, request, links):
    if not links:
        request.getfixturevalue("no_links")
    outcomes = []

    def write(number):
        try:
            write_atomically(out / "a.jpg", b"%d" % number, overwrite=False)
            outcomes.append(number)
        except FileExistsError:
            outcomes.append(None)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [one for one in outcomes if one is not None]
    assert len(outcomes) == 8
    assert [path.read_bytes() for path in out.iterdir()] == [b"%d" % winner]


def test_a_dangling_link_counts_as_a_file(out):
    (out / "a.jpg").symlink_to(out / "nowhere")
    with pytest.raises(FileExistsError):
        write_atomically(out / "a.jpg", b"new", overwrite=False)


def test_overwriting_through_a_link_keeps_the_link(out):
    (out / "real.jpg").write_bytes(b"old")
    (out / "latest.jpg").symlink_to(out / "real.jpg")
    write_atomically(out / "latest.jpg", b"new", overwrite=True)
    assert (out / "latest.jpg").is_symlink()
    assert (out / "real.jpg").read_bytes() == b"new"


def test_a_missing_folder_is_told(out):
    with pytest.raises(FileNotFoundError, match=r"the folder .*missing' does not exist; create it first"):
        write_atomically(out / "missing" / "a.jpg", b"x", overwrite=False)


@pytest.mark.parametrize("overwrite", [True, False])
def test_f57_a_full_disk_leaves_neither_a_file_nor_a_temporary_one(out, monkeypatch, overwrite):
    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(out / "a.jpg", b"x", overwrite=overwrite)
    assert list(out.iterdir()) == []


def test_suffixes_and_media_types_belong_together():
    assert [suffix_of(one) for one in ("image/jpeg", "image/png", "image/webp")] == [".jpg", ".png", ".webp"]
    assert media_type_of("a.JPEG") == media_type_of(Path("a.jpg")) == "image/jpeg"
    assert media_type_of("a") is media_type_of("a.bmp") is None
    with pytest.raises(ValueError, match="image/gif"):
        suffix_of("image/gif")


def test_without_a_suffix_the_right_one_is_added_and_the_bytes_are_untouched(stored, out, jpeg):
    path = save(stored, str(out / "car"))
    assert path == out / "car.jpg"
    assert path.read_bytes() == jpeg


def test_into_a_folder_the_name_is_made_from_the_content(stored, out, jpeg):
    name = f"image-{hashlib.sha256(jpeg).hexdigest()[:8]}.jpg"
    assert save(stored, out) == out / name
    with pytest.raises(FileExistsError):
        save(stored, f"{out}/")
    assert save(stored, f"{out}/", overwrite=True) == out / name


def test_a_slash_at_the_end_names_a_folder_that_must_exist(stored, out):
    with pytest.raises(FileNotFoundError, match="create it first"):
        save(stored, f"{out}/new/")


def test_the_home_folder_is_understood(stored, out, monkeypatch):
    monkeypatch.setenv("HOME", str(out))
    assert save(stored, "~/a.jpeg") == out / "a.jpeg"


@pytest.mark.parametrize("name", ["a.bmp", "a.v2", "a.txt"])
def test_a_suffix_that_we_cannot_write_is_refused_with_those_that_we_can(stored, out, name):
    with pytest.raises(InvalidRequest, match=r"\.jpg, \.jpeg, \.png or \.webp"):
        save(stored, out / name)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(("suffix", "form"), [(".png", "PNG"), (".webp", "WEBP")])
def test_the_suffix_of_another_format_converts_and_says_so(stored, out, caplog, suffix, form):
    with caplog.at_level(logging.WARNING, "anykontext"):
        path = save(stored, out / f"a{suffix}")
    assert Image.open(io.BytesIO(path.read_bytes())).format == form
    assert "converted" in caplog.text


def test_the_same_format_is_not_converted_and_nothing_is_said(stored, out, jpeg, caplog):
    assert save(stored, out / "a.JPEG").read_bytes() == jpeg
    assert caplog.text == ""


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white_in_a_jpeg(stored, out, mode):
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0)).convert(mode)
    options = {"transparency": 0} if mode == "P" else {}
    if mode == "P":
        clear.putdata([0] * 64)
    clear.save(stored, "PNG", **options)
    path = save(stored, out / "a.jpg", media_type="image/png")
    assert Image.open(io.BytesIO(path.read_bytes())).getpixel((4, 4)) == (255, 255, 255)


def test_a_conversion_keeps_the_colour_profile(stored, out, draw):
    stored.write_bytes(draw("JPEG", icc_profile=b"a profile"))
    path = save(stored, out / "a.png")
    assert Image.open(io.BytesIO(path.read_bytes())).info["icc_profile"] == b"a profile"


def test_a_picture_in_print_colours_is_converted_without_its_profile(stored, out, draw):
    stored.write_bytes(draw("JPEG", mode="CMYK", icc_profile=b"a profile for print"))
    image = Image.open(io.BytesIO(save(stored, out / "a.png").read_bytes()))
    assert image.mode == "RGB"
    assert "icc_profile" not in image.info


def test_a_decoded_picture_needs_no_file_any_more(stored, jpeg):
    image = decode(stored.read_bytes(), "image/jpeg")
    stored.unlink()
    assert image.resize((2, 2)).size == (2, 2)
