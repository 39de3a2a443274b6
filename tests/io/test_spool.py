import hashlib
import io
import os
import pickle
import stat
import struct
import threading
import time
import warnings
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from anykontext.io import spool as spools
from anykontext.io.spool import BadImage, Spool, check_image
from anykontext.model.errors import ConfigurationError


def put(spool, data, **options):
    with spool.receive() as incoming:
        for start in range(0, len(data), 10_000):
            incoming.write(data[start : start + 10_000])
        return incoming.keep(**options)


def files(spool):
    return sorted(path for path in spool.root.rglob("*") if path.is_file())


def test_an_image_is_kept_under_its_hash_with_the_bytes_untouched(spool, jpeg):
    image = put(spool, jpeg, source_url="https://cdn.example/a.jpg")
    sha256 = hashlib.sha256(jpeg).hexdigest()
    assert (image.media_type, image.width, image.height, image.sha256) == ("image/jpeg", 640, 427, sha256)
    assert image.data == jpeg
    assert image.source_url == "https://cdn.example/a.jpg"
    assert files(spool) == [spool.root / sha256[:2] / sha256]


@pytest.mark.parametrize("kind", ["png", "webps"])
def test_png_and_webp_are_kept_too(spool, request, kind):
    found = request.getfixturevalue(kind)
    for data in found if isinstance(found, tuple) else [found]:
        assert put(spool, data).data == data


def test_f38_the_same_content_twice_is_one_file(spool, jpeg):
    assert put(spool, jpeg) == put(spool, jpeg)
    assert len(files(spool)) == 1


def test_the_spool_is_readable_by_its_user_alone(spool, jpeg):
    put(spool, jpeg)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(spool)} == {0o600}
    folders = [spool.root, *(path for path in spool.root.iterdir() if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


def test_what_is_not_kept_leaves_nothing(spool, jpeg):
    with spool.receive() as incoming:
        incoming.write(jpeg)
    assert files(spool) == []


def test_the_bytes_are_on_disk_before_they_are_decoded(spool, jpeg, monkeypatch):
    steps = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append("fsync"), real(handle)))
    monkeypatch.setattr(spools, "decode", lambda *_: steps.append("decode"))
    put(spool, jpeg)
    assert steps[:2] == ["fsync", "decode"]
    assert steps[-1] == "fsync"  # the name of it, too


def test_an_image_is_found_again_by_its_hash(spool, jpeg):
    image = put(spool, jpeg)
    assert spool.find(image.sha256) == image.stored
    assert spool.find("0" * 64) is None


def test_f58_a_hash_that_is_none_leads_nowhere(spool, tmp_path, jpeg):
    spool.ensure()
    (tmp_path / "secret").write_bytes(jpeg)
    assert spool.find("../secret") is None
    assert spool.find("A" * 64) is None


def test_a_stored_image_is_saved_decoded_and_pickled(spool, jpeg, tmp_path):
    image = put(spool, jpeg)
    assert image.save(tmp_path / "a").read_bytes() == jpeg
    assert image.pil().size == (640, 427)
    assert pickle.loads(pickle.dumps(image)).data == jpeg


def test_f37_what_is_no_image_is_kept_for_diagnosis_and_its_place_is_told(spool):
    with pytest.raises(BadImage, match="an HTML page, not an image") as caught:
        put(spool, b"<html>Sorry</html>")
    (kept,) = files(spool)
    assert kept.read_bytes() == b"<html>Sorry</html>"
    assert kept.parent.name == "rejected"
    assert str(kept) in str(caught.value)


def test_only_the_newest_of_the_rejected_stay(spool, monkeypatch):
    monkeypatch.setattr(spools, "MAX_REJECTED", 3)
    for number in range(5):
        with pytest.raises(BadImage):
            put(spool, b"text %d" % number)
        for path in files(spool):
            os.utime(path, (path.stat().st_mtime - 10,) * 2)
    assert sorted(path.read_bytes() for path in files(spool)) == [b"text 2", b"text 3", b"text 4"]


def test_a_spool_that_can_be_written_is_made_and_left_empty(spool):
    spool.ensure()
    assert files(spool) == []


def test_ensure_sweeps_what_a_crash_left_behind_and_nothing_younger(spool):
    spool.ensure()
    old, young = spool.root / "incoming" / "old", spool.root / "incoming" / "young"
    for path in (old, young):
        path.write_bytes(b"half an ima")
    os.utime(old, (1e9, 1e9))
    spool.ensure()
    assert files(spool) == [young]


def test_f57_a_spool_that_cannot_be_written_is_told_before_anything_is_sent(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"cannot be written .* ANYKONTEXT_HOME"):
        Spool(tmp_path / "file" / "spool").ensure()


def test_f57_a_full_disk_raises_and_leaves_nothing(spool, jpeg, monkeypatch):
    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        put(spool, jpeg)
    assert files(spool) == []


def checked(tmp_path, data, max_pixels=100_000_000):
    path = tmp_path / "picture"
    path.write_bytes(data)
    return check_image(path, max_pixels)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.9999])
def test_f30_a_truncated_image_is_no_result(tmp_path, jpeg, png, webps, share):
    for data in (jpeg, png, *webps):
        with pytest.raises(BadImage, match=r"cut off|not an image"):
            checked(tmp_path, data[: int(len(data) * share)])


def test_f30_a_jpeg_that_lost_its_end_but_has_an_end_marker_in_its_thumbnail_is_no_result(tmp_path, jpeg, draw):
    exif = b"Exif\0\0" + draw("JPEG", (8, 8))
    data = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    with pytest.raises(BadImage, match="truncated") as caught:
        checked(tmp_path, data[:-1000])
    assert caught.value.cut


def test_f37_a_png_with_wrong_pixels_is_no_result(tmp_path, png):
    damaged = bytearray(png)
    damaged[len(png) // 2] ^= 0xFF
    with pytest.raises(BadImage, match="damaged"):
        checked(tmp_path, bytes(damaged))


def bomb(width, height):
    """A small PNG that says it is huge."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    packed = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_f36_a_pixel_bomb_is_refused_by_its_header_and_never_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(spools, "decode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(BadImage, match="30000 x 30000 pixels, more than the 100 megapixels"):
        checked(tmp_path, bomb(30_000, 30_000))


def test_f36_a_second_frame_header_cannot_smuggle_a_bomb_past_the_first(tmp_path, jpeg):
    at = jpeg.index(b"\xff\xc0") if b"\xff\xc0" in jpeg else jpeg.index(b"\xff\xc2")
    (length,) = struct.unpack_from(">H", jpeg, at + 2)
    frame = bytearray(jpeg[at : at + 2 + length])
    frame[5:9] = struct.pack(">HH", 65_000, 65_000)
    end = at + 2 + length
    with pytest.raises(BadImage, match="headers disagree"):
        checked(tmp_path, jpeg[:end] + bytes(frame) + jpeg[end:])


def test_a_large_picture_below_our_own_limit_gives_no_warning(tmp_path):
    out = io.BytesIO()
    Image.new("1", (10_000, 9_500)).save(out, "PNG")  # more than Pillow's limit for a warning
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checked(tmp_path, out.getvalue()) == ("image/png", 10_000, 9_500)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BMP", "AVIF"])
def test_only_three_formats_are_ever_decoded(tmp_path, draw, form):
    with pytest.raises(BadImage, match=f"a {form}; only JPEG, PNG and WebP"):
        checked(tmp_path, draw(form))


def test_an_empty_file_may_be_a_cut_one(tmp_path):
    with pytest.raises(BadImage, match="nothing") as caught:
        checked(tmp_path, b"")
    assert caught.value.cut


def test_images_are_checked_in_threads_without_touching_global_settings(tmp_path, jpeg, png):
    outcomes = []

    def check(number):
        path = tmp_path / f"{number}"
        path.write_bytes(jpeg[:-5000] if number % 3 == 0 else png)
        try:
            outcomes.append(check_image(path))
        except BadImage:
            outcomes.append(None)

    before = list(warnings.filters)
    threads = [threading.Thread(target=check, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(None) == 4
    assert outcomes.count(("image/png", 600, 400)) == 8
    assert warnings.filters == before
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.data())
def test_any_mutation_of_a_picture_is_an_image_or_a_bad_one(tmp_path, mutated, data):
    try:
        media_type, width, height = checked(tmp_path, data.draw(mutated), max_pixels=1_000_000)
    except BadImage:
        return
    assert media_type in {"image/jpeg", "image/png", "image/webp"}
    assert width * height <= 1_000_000


def aged(spool: Spool, name: str, days: float, size: int) -> Path:
    path = spool.root / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    then = time.time() - days * 86_400
    os.utime(path, (then, then))
    return path


def test_images_beyond_their_time_are_deleted_and_then_the_oldest_beyond_the_size(spool: Spool) -> None:
    expired = aged(spool, "aa" + "0" * 62, 100, 10)
    oldest = aged(spool, "ab" + "0" * 62, 20, 10)
    newer = aged(spool, "ac" + "0" * 62, 10, 10)

    assert 2 == spool.trim(90 * 86_400, max_bytes=15)
    assert [False, False, True] == [path.exists() for path in (expired, oldest, newer)]


def test_an_image_of_this_hour_is_never_deleted(spool: Spool) -> None:
    young = aged(spool, "aa" + "0" * 62, 0.01, 10)

    assert 0 == spool.trim(0.0, max_bytes=0)
    assert young.exists()
