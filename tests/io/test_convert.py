import io
import struct
import sys
import threading
from types import ModuleType
from zlib import crc32

import pytest
from PIL import Image, ImageChops, ImageCms, ImageStat
from PIL.JpegImagePlugin import JpegImageFile

from anykontext.engine.needs import target_size
from anykontext.io import convert as converting
from anykontext.io.convert import convert, scale_to
from anykontext.io.metadata import Traits, look, strip
from anykontext.io.probe import JPEG, PNG, WEBP, probe
from anykontext.model.errors import InvalidRequest

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def photo(jpeg):
    with Image.open(io.BytesIO(jpeg)) as image:
        image.load()
        image.info = {}
        return image


def written(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def read(data):
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


def alike(one, other, most=3.0):
    """Whether two pictures look the same: the mean difference of a channel, of 255."""
    assert one.size == other.size
    found = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean
    assert max(found) <= most, found
    return True


def turned(image, turn):
    """The picture as a camera stores it that says `turn` in its tag."""
    kinds = Image.Transpose
    stored = {2: kinds.FLIP_LEFT_RIGHT, 3: kinds.ROTATE_180, 4: kinds.FLIP_TOP_BOTTOM, 5: kinds.TRANSPOSE}
    stored |= {6: kinds.ROTATE_90, 7: kinds.TRANSVERSE, 8: kinds.ROTATE_270}
    return image if turn == 1 else image.transpose(stored[turn])


def tag(turn=1, **more):
    exif = Image.Exif()
    exif[0x0112] = turn
    exif[0x010F] = "A camera with a serial number"
    for key, value in more.items():
        exif[int(key[1:], 16)] = value
    return exif


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_all_eight_orientations_give_the_same_upright_picture(photo, turn, form):
    small = photo.resize((120, 80))
    data = written(turned(small, turn), form, exif=tag(turn), quality=95)
    found = convert(data, f"image/{form.lower()}", "it")
    assert (found.width, found.height) == (120, 80)
    alike(read(found.data), small, 4.0)
    assert look(found.data, found.media_type) == Traits()
    assert b"serial" not in found.data


def test_turning_a_png_loses_nothing(photo):
    small = photo.resize((120, 80))
    found = convert(written(turned(small, 6), "PNG", exif=tag(6)), PNG, "it")
    assert found.media_type == PNG
    assert read(found.data).tobytes() == small.tobytes()


def test_a_jpeg_keeps_its_full_colour_resolution(photo):
    from PIL.JpegImagePlugin import get_sampling

    found = convert(written(photo, "JPEG", exif=tag(3)), JPEG, "it")
    with JpegImageFile(io.BytesIO(found.data)) as image:
        assert get_sampling(image) == 0


@pytest.mark.parametrize("keep", ["private", "all", "keep"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_profile_stays_and_the_copyright_as_asked(photo, form, keep):
    data = written(photo.resize((60, 40)), form, icc_profile=SRGB, exif=tag(6, x8298="(c) Jane Doe", x013B="Jane Doe"))
    found = convert(data, f"image/{form.lower()}", "it", keep)
    image = read(found.data)
    assert image.info["icc_profile"] == SRGB
    exif = dict(image.getexif())
    assert exif.get(0x8298) == (None if keep == "all" else "(c) Jane Doe")
    assert exif.get(0x010F) == ("A camera with a serial number" if keep == "keep" and form != "TIFF" else None)
    assert exif.get(0x0112, 1) == 1
    assert strip(found.data, found.media_type, keep) is found.data


def test_a_gif_gives_its_first_frame_with_what_is_transparent(draw):
    frames = [Image.new("RGBA", (20, 10), colour) for colour in ("#f00f", "#00ff")]
    frames[0].putpixel((3, 3), (0, 0, 0, 0))
    data = written(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"a comment")
    found = convert(data, "image/gif", "it")
    assert (found.media_type, found.first_of_many) == (PNG, True)
    image = read(found.data).convert("RGBA")
    assert (image.getpixel((0, 0)), image.getpixel((3, 3))[3]) == ((255, 0, 0, 255), 0)
    assert b"a comment" not in found.data
    assert not convert(draw("GIF"), "image/gif", "it").first_of_many


def test_an_animated_webp_gives_its_first_frame():
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    found = convert(written(frames[0], "WEBP", save_all=True, append_images=frames[1:]), WEBP, "it")
    assert (found.media_type, found.first_of_many) == (JPEG, True)
    alike(read(found.data), frames[0], 5.0)


def test_the_first_page_of_a_tiff_is_taken(photo):
    small = photo.resize((60, 40))
    found = convert(written(small, "TIFF", save_all=True, append_images=[small.rotate(90)]), "image/tiff", "it")
    assert (found.media_type, found.width, found.first_of_many) == (JPEG, 60, True)
    alike(read(found.data), small)


@pytest.mark.parametrize("form", ["BMP", "TIFF", "AVIF", "GIF"])
def test_formats_that_providers_do_not_take_become_ones_that_they_do(photo, form):
    small = photo.resize((120, 80))
    found = convert(written(small, form), f"image/{form.lower()}", "it")
    assert found.media_type == (PNG if form in {"BMP", "GIF"} else JPEG)
    alike(read(found.data), small, 12.0 if form == "GIF" else 4.0)


def test_sixteen_bits_are_scaled_and_not_clipped():
    ramp = Image.new("I;16", (256, 1))
    for at in range(256):
        ramp.putpixel((at, 0), at * 257)
    found = convert(written(ramp, "PNG"), PNG, "it")
    assert found.media_type == PNG
    assert list(read(found.data).tobytes()) == list(range(256))


@pytest.mark.parametrize("form", ["TIFF", "PNG"])
def test_sixteen_bit_grey_has_a_middle(form):
    image = Image.new("I;16", (8, 8), 32896)
    found = read(convert(written(image, form), f"image/{form.lower()}", "it").data)
    assert (found.mode, found.getpixel((4, 4))) == ("L", 128)


def test_the_one_grey_that_is_transparent_stays_so_at_eight_bits():
    image = Image.new("I;16", (2, 1), 32896)
    image.putpixel((1, 0), 32897)
    data = written(image, "PNG", transparency=32897)
    found = read(convert(data, PNG, "it").data)
    assert (found.mode, found.getpixel((0, 0)), found.getpixel((1, 0))) == ("LA", (128, 255), (128, 0))


def rgb16(width, height, sample):
    """A PNG of 16-bit RGB, which Pillow does not write."""
    from zlib import compress

    def chunk(kind, payload):
        return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", crc32(kind + payload))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = (b"\0" + struct.pack(">3H", *sample) * width) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bit_rgb_becomes_eight_bit():
    data = rgb16(5, 4, (65535, 32896, 0))
    assert look(data, PNG) == Traits(deep=True)
    found = convert(data, PNG, "it")
    assert read(found.data).getpixel((2, 2)) == (255, 128, 0)
    assert look(found.data, PNG) == Traits()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_without_a_white_are_refused(mode):
    with pytest.raises(InvalidRequest, match="do not say what is white"):
        convert(written(Image.new(mode, (4, 4)), "TIFF"), "image/tiff", "it")


@pytest.mark.parametrize(
    ("mode", "made"), [("1", "L"), ("L", "L"), ("LA", "LA"), ("P", "RGB"), ("RGBA", "RGBA"), ("RGB", "RGB")]
)
def test_modes_of_a_png_keep_their_pixels(photo, mode, made):
    image = photo.resize((40, 30)).convert("RGBA" if mode == "RGBA" else mode)
    if mode in {"LA", "RGBA"}:
        image.putalpha(Image.linear_gradient("L").resize((40, 30)))
    found = read(convert(written(image, "PNG"), PNG, "it").data)
    assert found.mode == made
    assert found.tobytes() == image.convert(made).tobytes()


def test_a_palette_with_a_transparent_colour_keeps_it(photo):
    image = photo.resize((40, 30)).quantize(16)
    found = read(convert(written(image, "PNG", transparency=3), PNG, "it").data)
    expected = read(written(image, "PNG", transparency=3)).convert("RGBA")
    assert found.tobytes() == expected.tobytes()


def test_transparency_in_which_nothing_is_transparent_does_not_make_a_png(photo):
    image = photo.resize((60, 40)).convert("RGBA")
    assert convert(written(image, "AVIF"), "image/avif", "it").media_type == JPEG
    image.putpixel((0, 0), (1, 2, 3, 100))
    assert convert(written(image, "AVIF"), "image/avif", "it").media_type == PNG


def test_print_colours_become_srgb(photo):
    small = photo.resize((60, 40))
    plain = convert(written(small.convert("CMYK"), "JPEG", quality=95), JPEG, "it")
    alike(read(plain.data), small, 4.0)
    broken = convert(written(small.convert("CMYK"), "JPEG", quality=95, icc_profile=b"not a profile"), JPEG, "it")
    assert broken.data == plain.data
    assert "icc_profile" not in read(broken.data).info
    lab = ImageCms.profileToProfile(
        small, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    alike(read(convert(written(lab, "TIFF"), "image/tiff", "it").data), small, 4.0)


def test_a_profile_of_print_colours_is_used_and_not_passed_on(photo, monkeypatch):
    used = []

    def turn(image, source, *_, **__):
        used.append(source.read())
        return Image.new("RGB", image.size, "green")

    monkeypatch.setattr(ImageCms, "profileToProfile", turn)
    profile = SRGB[:16] + b"CMYK" + SRGB[20:]
    found = convert(written(photo.resize((6, 4)).convert("CMYK"), "JPEG", icc_profile=profile), JPEG, "it")
    assert used == [profile]
    assert "icc_profile" not in read(found.data).info


def test_one_pixel_is_a_picture():
    for form in ("GIF", "TIFF", "BMP", "PNG", "JPEG", "WEBP"):
        data = written(Image.new("RGB", (1, 1), "red"), form)
        found = convert(data, f"image/{form.lower()}", "it")
        assert (found.width, found.height) == (1, 1)
        if form in {"PNG", "JPEG", "WEBP"}:
            small = scale_to(data, f"image/{form.lower()}", "it", max_pixels=1, max_bytes=5000)
            assert (small.width, small.height) == (1, 1)


def claiming(form, draw):
    """A small file whose header claims 20,000 x 20,000 pixels."""
    data = bytearray(draw(form))
    side = 20_000
    if form == "PNG":
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", crc32(data[12:29]))
    elif form == "GIF":
        data[6:10] = struct.pack("<HH", side, side)
    elif form == "BMP":
        data[18:26] = struct.pack("<ii", side, side)
    elif form == "JPEG":
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(data)


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "JPEG", "TIFF"])
def test_f36_a_header_that_claims_too_much_is_refused_before_decoding(draw, form, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("it was decoded"))
    data = claiming(form, draw)
    if form == "TIFF":
        data = data.replace(struct.pack("<HHII", 256, 4, 1, 31), struct.pack("<HHII", 256, 4, 1, 20_000))
        data = data.replace(struct.pack("<HHIHH", 256, 3, 1, 31, 0), struct.pack("<HHIHH", 256, 3, 1, 20_000, 0))
        data = data.replace(struct.pack("<HHIHH", 257, 3, 1, 17, 0), struct.pack("<HHIHH", 257, 3, 1, 20_000, 0))
        data = data.replace(struct.pack("<HHII", 257, 4, 1, 17), struct.pack("<HHII", 257, 4, 1, 20_000))
    with pytest.raises(InvalidRequest, match=r"20000 x 20000 pixels, and at most 100 megapixels are taken"):
        convert(data, f"image/{form.lower()}", "it")


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_a_damaged_file_is_told_in_a_sentence(photo, form):
    data = written(photo.resize((120, 80)), form)
    with pytest.raises(InvalidRequest, match=r"^it: the \w+ is damaged"):
        convert(data[: len(data) // 2], f"image/{form.lower()}", "it")


def test_a_broken_exif_block_disturbs_nothing(photo):
    data = written(
        photo.resize((60, 40)), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xffrubbish" + bytes(9)
    )
    found = convert(data, JPEG, "it")
    alike(read(found.data), photo.resize((60, 40)), 5.0)


def test_heic_without_its_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InvalidRequest, match=r"pip install 'anykontext\[heif\]'"):
        convert(b"heic", "image/heic", "it")


def test_heic_is_decoded_where_the_extra_is(photo, monkeypatch):
    plugin = ModuleType("pillow_heif")
    plugin.HeifImageFile = JpegImageFile
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    small = photo.resize((60, 40))
    found = convert(written(small, "JPEG", quality=95, exif=tag(8, x8298="(c) Jane Doe")), "image/heic", "it")
    assert (found.media_type, found.width, found.height) == (JPEG, 40, 60)
    assert b"(c) Jane Doe" in found.data
    assert b"serial" not in found.data


def test_heic_as_phones_write_it(photo):
    heif = pytest.importorskip("pillow_heif")
    small = photo.resize((120, 80))
    out = io.BytesIO()
    heif.from_pillow(small).save(out)
    assert probe(out.getvalue()).media_type == "image/heic"
    found = convert(out.getvalue(), "image/heic", "it")
    alike(read(found.data), small, 5.0)


def test_avif_without_its_decoder_says_what_to_install(monkeypatch):
    monkeypatch.setattr("PIL.features.check", lambda _: False)
    with pytest.raises(InvalidRequest, match=r"AVIF needs a Pillow with AVIF, 11\.3 or newer"):
        convert(b"avif", "image/avif", "it")


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (1, 5000), (5000, 1), (31, 17), (1, 1)])
@pytest.mark.parametrize("most", [1, 7, 1000, 100_000, 273_280])
def test_the_size_aimed_at_keeps_the_ratio_and_never_grows(size, most):
    width, height = target_size(*size, most)
    assert 1 <= width <= size[0]
    assert 1 <= height <= size[1]
    assert width * height <= most
    if min(width, height) > 20:
        assert abs(width / height - size[0] / size[1]) < 0.1
        assert width * height > 0.85 * min(most, size[0] * size[1])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_too_many_pixels_are_scaled_down(photo, form):
    found = scale_to(written(photo, form), f"image/{form.lower()}", "it", max_pixels=20_000, max_bytes=10**7)
    assert found.media_type == f"image/{form.lower()}"
    assert found.width * found.height <= 20_000
    assert abs(found.width / found.height - 640 / 427) < 0.01
    alike(read(found.data), photo.resize((found.width, found.height), Image.Resampling.LANCZOS), 4.0)


def test_a_large_jpeg_is_decoded_at_a_smaller_scale(photo, monkeypatch):
    drafted = []
    monkeypatch.setattr(JpegImageFile, "draft", lambda self, mode, size: drafted.append((mode, size)))
    scale_to(written(photo, "JPEG"), JPEG, "it", max_pixels=20_000, max_bytes=10**7)
    assert drafted == [("RGB", (173, 115))]


def test_a_small_picture_is_never_made_larger(photo):
    found = scale_to(written(photo, "JPEG", quality=60), JPEG, "it", max_pixels=10**9, max_bytes=10**9)
    assert (found.width, found.height) == (640, 427)


def test_too_many_bytes_cost_quality_first_and_pixels_last(photo):
    data = written(photo, "JPEG", quality=98)
    sizes = [len(written(photo, "JPEG", quality=q, subsampling=s)) for q, s in ((95, 0), (80, 2))]
    less = scale_to(data, JPEG, "it", max_pixels=10**9, max_bytes=(sizes[0] + sizes[1]) // 2)
    assert (less.width, less.height) == (640, 427)
    small = scale_to(data, JPEG, "it", max_pixels=10**9, max_bytes=sizes[1] // 8)
    assert small.width < 640
    assert len(small.data) <= sizes[1] // 8
    assert abs(small.width / small.height - 640 / 427) < 0.02


def test_a_png_that_is_too_large_becomes_a_jpeg_of_as_many_pixels(photo):
    data = written(photo, "PNG")
    found = scale_to(data, PNG, "it", max_pixels=10**9, max_bytes=len(data) // 2)
    assert (found.media_type, found.width) == (JPEG, 640)
    only = scale_to(data, PNG, "it", max_pixels=10**9, max_bytes=len(data) // 2, media_types=(PNG,))
    assert (only.media_type, only.width < 640) == (PNG, True)


def test_what_is_transparent_stays_so_where_the_provider_allows(photo):
    image = photo.resize((200, 130)).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = written(image, "PNG")
    limit = len(data) // 3
    webp = scale_to(data, PNG, "it", max_pixels=10**9, max_bytes=limit, media_types=(JPEG, PNG, WEBP))
    assert (webp.media_type, webp.width, read(webp.data).mode) == (WEBP, 200, "RGBA")
    png = scale_to(data, PNG, "it", max_pixels=10**9, max_bytes=limit, media_types=(JPEG, PNG))
    assert (png.media_type, png.width < 200, read(png.data).mode) == (PNG, True, "RGBA")
    white = scale_to(data, PNG, "it", max_pixels=10**9, max_bytes=10**7, media_types=(JPEG,))
    assert white.media_type == JPEG
    flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    alike(read(white.data), flat, 4.0)


def test_grey_pictures_become_webp_too(photo):
    for mode in ("L", "LA"):
        data = written(photo.resize((60, 40)).convert(mode), "PNG")
        assert scale_to(data, PNG, "it", max_pixels=100, max_bytes=10**6, media_types=(WEBP,)).media_type == WEBP


def test_a_type_that_cannot_be_made_is_refused(photo):
    with pytest.raises(InvalidRequest, match="cannot be made into"):
        scale_to(written(photo, "JPEG"), JPEG, "it", max_pixels=100, max_bytes=10**6, media_types=("image/gif",))


def test_what_cannot_be_made_so_small_is_refused_after_a_bounded_number_of_tries(photo, monkeypatch):
    tries = []
    encode = converting._encoded
    monkeypatch.setattr(converting, "_encoded", lambda *given: tries.append(1) or encode(*given))
    with pytest.raises(InvalidRequest, match="cannot be made as small as 10 bytes"):
        scale_to(written(photo, "JPEG"), JPEG, "it", max_pixels=10**9, max_bytes=10)
    assert len(tries) <= 12


def test_scaling_keeps_profile_and_rights_and_turns(photo):
    data = written(turned(photo, 6), "JPEG", icc_profile=SRGB, exif=tag(6, x8298="(c) Jane Doe"))
    found = scale_to(data, JPEG, "it", max_pixels=20_000, max_bytes=10**6)
    image = read(found.data)
    assert (image.size, image.size) == ((found.width, found.height), (173, 115))
    assert image.info["icc_profile"] == SRGB
    assert (image.getexif()[0x8298], image.getexif()[0x0112]) == ("(c) Jane Doe", 1)
    alike(image, photo.resize(image.size), 6.0)


def test_only_so_many_pictures_are_worked_on_at_once(photo, monkeypatch):
    monkeypatch.setattr(converting, "_at_work", threading.BoundedSemaphore(2))
    at_once, most, lock = 0, 0, threading.Lock()
    plain = converting._plain

    def counted(*given):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        try:
            threading.Event().wait(0.01)
            return plain(*given)
        finally:
            with lock:
                at_once -= 1

    monkeypatch.setattr(converting, "_plain", counted)
    data = written(photo.resize((60, 40)), "BMP")
    found = []
    threads = [threading.Thread(target=lambda: found.append(convert(data, "image/bmp", "it"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(found), len({one.data for one in found}), most) == (8, 1, 2)
