import io
import struct
import time
import tracemalloc
import warnings
from zlib import compress, crc32

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from anykontext.io import exif
from anykontext.io.metadata import Parts, Traits, exif_block, look, orientation, strip
from anykontext.io.prepare import prepare_source
from anykontext.io.probe import JPEG, PNG, WEBP, NotAPicture, complete, probe
from anykontext.model.errors import InvalidRequest
from anykontext.model.image import InputImage

SERIAL, MAKER, NOTICE, ARTIST = b"SERIAL-4711", b"MAKER-NOTE-0815", b"(c) 2026 Jane Doe", b"Jane Doe"
POSITION = struct.pack(">6I", 48, 1, 51, 1, 2961, 100)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SECRETS = (SERIAL, MAKER, POSITION, b"thumbnail!", b"xpacket", b"8BIM", b"a comment", b"c2pa", b"2026:01:02")
DECODERS = {JPEG: JpegImageFile, PNG: PngImageFile, WEBP: WebPImageFile}


def directory(at, entries, order=">", following=0):
    """A TIFF directory that begins at `at`, with the values that do not fit into it behind it."""
    head, tail = struct.pack(order + "H", len(entries)), b""
    values_at = at + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in sorted(entries):
        field = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(order + "I", values_at + len(tail))
        tail += value + bytes(len(value) % 2) if len(value) > 4 else b""
        head += struct.pack(order + "HHI", tag, kind, count) + field
    return head + struct.pack(order + "I", following) + tail


def camera(turn=1, *, rights=True, order=">"):
    """The EXIF block of a camera: position, serial number, maker note, date, thumbnail."""

    def number(value, kind="H"):
        return struct.pack(order + kind, value)

    base = [(0x0112, 3, 1, number(turn)), (0x0132, 2, 11, b"2026:01:02\0")]
    if rights:
        base += [(0x013B, 2, len(ARTIST) + 1, ARTIST + b"\0"), (0x8298, 2, len(NOTICE) + 1, NOTICE + b"\0")]
    size = len(directory(8, [*base, (0x8769, 4, 1, bytes(4)), (0x8825, 4, 1, bytes(4))], order))
    details = directory(
        8 + size,
        [(0xA431, 2, len(SERIAL) + 1, SERIAL + b"\0"), (0x927C, 7, len(MAKER), MAKER)],
        order,
    )
    places_at = 8 + size + len(details)
    places = directory(places_at, [(1, 2, 2, b"N\0"), (2, 5, 3, POSITION)], order)
    thumbs_at = places_at + len(places)
    small = b"\xff\xd8thumbnail!\xff\xd9"
    entries = [(0x0201, 4, 1, number(thumbs_at + 30, "I")), (0x0202, 4, 1, number(len(small), "I"))]
    thumbs = directory(thumbs_at, entries, order)
    links = [(0x8769, 4, 1, number(8 + size, "I")), (0x8825, 4, 1, number(places_at, "I"))]
    first = directory(8, [*base, *links], order, thumbs_at)
    mark = {">": b"MM\0*", "<": b"II*\0"}[order]
    return mark + number(8, "I") + first + details + places + thumbs + small


def segment(marker, payload):
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def chunk(kind, payload):
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", crc32(kind + payload))


def riff(data, *chunks):
    """A WebP with further chunks at its end."""
    body = data[8:] + b"".join(k + struct.pack("<I", len(p)) + p + bytes(len(p) % 2) for k, p in chunks)
    flags = body[12] | (0x0C if body[4:8] == b"VP8X" else 0)
    body = body[:12] + bytes([flags]) + body[13:] if body[4:8] == b"VP8X" else body
    return b"RIFF" + struct.pack("<I", len(body)) + body


def photo(data, turn=1, **options):
    """A JPEG with everything in it that a phone, an editor and a signer put there."""
    extra = (
        segment(0xE1, b"Exif\0\0" + camera(turn, **options))
        + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<?xpacket tiff:Orientation='1'?>")
        + segment(0xE2, b"ICC_PROFILE\0\1\1" + PROFILE)
        + segment(0xE2, b"MPF\0" + camera())
        + segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x04city")
        + segment(0xEB, b"JP\0\1\0\0\0\1c2pa")
        + segment(0xFE, b"a comment")
    )
    jfif = data[2:20]
    assert jfif[4:9] == b"JFIF\0"
    return data[:2] + jfif + extra + data[20:] + b"\xff\xd8a film and previews" + SERIAL


def drawing(data, turn=1, **options):
    """A PNG with everything in it."""
    extra = (
        chunk(b"iCCP", b"icc\0\0" + compress(PROFILE))
        + chunk(b"eXIf", camera(turn, **options))
        + chunk(b"tEXt", b"Comment\0a comment")
        + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<?xpacket?>")
        + chunk(b"zTXt", b"Raw profile type iptc\0\x008BIM")
        + chunk(b"tIME", struct.pack(">HBBBBB", 2026, 1, 2, 3, 4, 5))
        + chunk(b"caBX", b"c2pa")
        + chunk(b"tEXt", b"Copyright\0" + NOTICE)
    )
    return data[:33] + extra + data[33:] + b"what was cropped away" + SERIAL


def animation(draw):
    frames = [Image.new("RGB", (31, 17), colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    return out.getvalue()


def pixels(data, media_type=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = DECODERS[media_type or probe(data).media_type](io.BytesIO(data))
        image.load()
    return image.mode, image.size, image.tobytes(), image.info.get("icc_profile")


@pytest.fixture(scope="module")
def jpeg(jpeg):
    """The photograph, without the comment and the profile that it came with."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(jpeg)) as image:
        image.info = {}
        image.save(out, "JPEG", quality=90)
    return out.getvalue()


@pytest.fixture(params=["jpeg", "progressive", "png", "webp"])
def full(request, jpeg, png, webps, draw):
    """A picture with all kinds of metadata, and its media type."""
    if request.param == "webp":
        made = riff(webps[2], (b"EXIF", camera()), (b"XMP ", b"<?xpacket?>"), (b"c2pa", b"x")) + SERIAL
        return made, WEBP
    if request.param == "png":
        return drawing(png), PNG
    return photo(jpeg if request.param == "jpeg" else draw("JPEG", (90, 60), progressive=True)), JPEG


def test_what_is_private_goes_and_the_pixels_stay(full):
    data, media_type = full
    found = bytes(strip(data, media_type))
    assert pixels(found) == pixels(data)
    assert [secret for secret in SECRETS if secret in found] == []
    assert SERIAL in data
    assert complete(found, probe(found)) is None
    assert NOTICE in found


def test_all_means_the_copyright_too(full):
    data, media_type = full
    found = bytes(strip(data, media_type, "all"))
    assert pixels(found) == pixels(data)
    assert (NOTICE in found, ARTIST in found, b"Exif" in found, b"eXIf" in found) == (False,) * 4


def test_keep_changes_nothing(full):
    data, media_type = full
    assert strip(data, media_type, "keep") is data


@pytest.mark.parametrize("keep", ["private", "all"])
def test_what_was_stripped_is_not_changed_again(full, keep):
    data, media_type = full
    once = bytes(strip(data, media_type, keep))
    assert strip(once, media_type, keep) is once


def test_pictures_with_nothing_private_in_them_come_back_as_they_are(jpeg, webps, draw):
    for data in (draw("JPEG"), draw("PNG"), draw("PNG", mode="P"), *webps, draw("JPEG", icc_profile=PROFILE)):
        assert strip(data, probe(data).media_type) is data
    assert strip(b"GIF89a", "image/gif") == b"GIF89a"


def test_the_copyright_is_read_by_others_in_the_new_block(full):
    data, media_type = full
    with Image.open(io.BytesIO(bytes(strip(data, media_type)))) as image:
        found = dict(image.getexif())
    assert found == {0x013B: ARTIST.decode(), 0x8298: NOTICE.decode()}


def test_a_profile_stays_whatever_is_cut(full):
    data, media_type = full
    if media_type == WEBP:
        pytest.skip("this fixture has none; see the next test")
    assert pixels(bytes(strip(data, media_type, "all")))[3] == PROFILE


def test_a_webp_keeps_its_profile_and_its_frames(draw):
    out = io.BytesIO()
    Image.new("RGBA", (9, 9), "#f008").save(out, "WEBP", icc_profile=PROFILE, exif=b"Exif\0\0" + camera(), xmp=b"<x/>")
    found = bytes(strip(out.getvalue(), WEBP, "all"))
    assert pixels(found)[3] == PROFILE
    assert found[20] & 0x3C == 0x30  # profile and alpha, neither EXIF nor XMP
    moving = riff(animation(draw), (b"EXIF", camera()))
    with Image.open(io.BytesIO(bytes(strip(moving, WEBP)))) as image:
        assert image.n_frames == 2


def test_the_thumbnail_of_a_jfif_header_goes_and_its_density_stays(jpeg):
    small = jpeg[:2] + segment(0xE0, jpeg[6:18] + b"\1\1" + b"RGB") + segment(0xE0, b"JFXX\0\x10thumb") + jpeg[20:]
    assert bytes(strip(small, JPEG)) == jpeg


def test_an_adobe_header_stays_because_it_tells_the_colours():
    out = io.BytesIO()
    Image.linear_gradient("L").convert("CMYK").save(out, "JPEG", comment=b"a comment")
    found = bytes(strip(out.getvalue(), JPEG))
    assert b"Adobe" in found
    assert pixels(found) == pixels(out.getvalue())


def test_a_fill_byte_before_what_is_cut_makes_no_marker_of_what_follows(jpeg):
    odd = jpeg[:20] + b"\xff" + segment(0xFE, b"a comment") + b"\xc4" + jpeg[20:]
    found = bytes(strip(odd, JPEG))
    assert pixels(found) == pixels(odd) == pixels(jpeg)


def test_metadata_between_the_scans_of_a_progressive_jpeg_is_emptied(draw):
    data = draw("JPEG", (90, 60), progressive=True)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    at = data.rindex(b"\xff\xc4", 0, second)
    odd = data[:at] + segment(0xFE, b"a comment") + data[at:]
    found = bytes(strip(odd, JPEG))
    assert b"a comment" not in found
    assert pixels(found) == pixels(data)


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_the_orientation_is_read_as_pillow_reads_it(jpeg, png, webps, turn, order):
    for data, media_type in (
        (photo(jpeg, turn, order=order), JPEG),
        (drawing(png, turn, order=order), PNG),
        (riff(webps[2], (b"EXIF", b"Exif\0\0" + camera(turn, order=order))), WEBP),
    ):
        assert orientation(data, media_type) == turn == DECODERS[media_type](io.BytesIO(data)).getexif()[0x0112]
        assert orientation(bytes(strip(data, media_type)), media_type) == 1


@pytest.mark.parametrize("cut", [0, 3, 8, 9, 15, 21, 30])
def test_a_broken_exif_block_says_upright(jpeg, cut):
    data = jpeg[:20] + segment(0xE1, b"Exif\0\0" + camera(6)[:cut]) + jpeg[20:]
    assert orientation(data, JPEG) in {1, 6}
    assert bytes(strip(data, JPEG)) == jpeg


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_there_is_not_is_upright(jpeg, value):
    assert orientation(photo(jpeg, value), JPEG) == 1


def test_an_upright_block_differs_in_the_orientation_alone():
    assert exif.upright(camera(6)) == camera(1)
    assert exif.upright(camera(8, order="<")) == camera(1, order="<")
    assert exif.upright(b"rubbish") == b"rubbish"


def test_rights_given_as_texts_are_read_back():
    block = exif.rights_of("Jané", "abc")
    assert exif.rights(block) == block
    assert ("Jané".encode() in block, b"abc\0" in block) == (True, True)
    assert exif.rights_of("", 3) == exif.rights_of(None, " \0") == b""


@given(st.binary(max_size=200) | st.binary(max_size=120).map(lambda tail: camera(6)[:60] + tail))
def test_no_exif_block_raises(block):
    assert 1 <= exif.orientation(block) <= 8
    assert len(exif.upright(block)) == len(block)
    made = exif.rights(block)
    assert exif.rights(made) == made


def test_traits_are_told_by_the_headers(jpeg, png, webps, draw):
    assert look(jpeg, JPEG) == look(png, PNG) == look(webps[0], WEBP) == look(webps[2], WEBP) == Traits()
    assert look(draw("JPEG", mode="CMYK"), JPEG) == Traits(print_colours=True)
    assert look(draw("PNG", mode="I;16"), PNG) == Traits(deep=True)
    assert look(animation(draw), WEBP) == Traits(animated=True)
    out = io.BytesIO()
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "blue")]
    frames[0].save(out, "PNG", save_all=True, append_images=frames[1:])
    assert look(out.getvalue(), PNG) == Traits(animated=True)
    assert look(photo(jpeg, 5), JPEG) == Traits(orientation=5)
    assert look(b"GIF89a", "image/gif") == Traits()


def test_the_block_is_found_where_each_format_keeps_it(jpeg, png, webps):
    for data, media_type in ((photo(jpeg), JPEG), (drawing(png), PNG), (riff(webps[2], (b"EXIF", camera())), WEBP)):
        assert exif_block(data, media_type) == camera()
    assert exif_block(jpeg, JPEG) == b""


@given(st.lists(st.binary(max_size=30), max_size=6), st.integers(1, 24))
def test_runs_are_the_same_bytes_in_even_steps(pieces, size):
    parts = Parts(tuple(pieces))
    runs = [bytes(run) for run in parts.runs(size)]
    assert b"".join(runs) == bytes(parts) == b"".join(pieces)
    assert all(len(run) == size for run in runs[:-1])
    assert len(parts) == len(bytes(parts))


def large_photo(jpeg):
    with Image.open(io.BytesIO(jpeg)) as image:
        out = io.BytesIO()
        noise = Image.effect_noise((1000, 750), 60).resize((4000, 3000))
        Image.blend(image.resize((4000, 3000)), noise.convert("RGB"), 0.3).save(out, "JPEG", quality=93)
    return photo(out.getvalue())


def test_twelve_megapixels_are_stripped_at_once_and_without_a_copy_of_the_pixels(jpeg):
    data = large_photo(jpeg)
    took = []
    for _ in range(5):
        started = time.perf_counter()
        found = strip(data, JPEG)
        took.append(time.perf_counter() - started)
    assert min(took) < 0.02  # a few milliseconds; benchmarks tell it exactly
    tracemalloc.start()
    strip(data, JPEG)
    for _ in found.runs(196_608):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 700_000 < len(data) / 2
    assert sum(isinstance(piece, memoryview) and len(piece) > 1_000_000 for piece in found.pieces) == 1


def seeds(draw):
    """Small pictures with metadata in them, as hypothesis mutates them."""
    webp = draw("WEBP", mode="RGBA", quality=80)
    small = camera(3)
    return [
        photo(draw("JPEG")),
        photo(draw("JPEG", progressive=True)),
        photo(draw("JPEG", restart_marker_rows=1)),
        drawing(draw("PNG")),
        drawing(draw("PNG", mode="P")),
        riff(webp, (b"EXIF", small), (b"XMP ", b"<?xpacket?>")),
        riff(draw("WEBP", quality=80), (b"EXIF", small)) + b"more",
        animation(draw),
    ]


@st.composite
def changes(pick):
    return pick(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6)), pick(
        st.floats(0, 1) | st.none()
    )


def same_pixels(data, media_type, keep):
    found = bytes(strip(data, media_type, keep))
    try:
        before = pixels(data, media_type)
    except Exception:  # noqa: BLE001 - it was no picture
        return found
    assert pixels(found, media_type)[:3] == before[:3]
    return found


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(which=st.integers(0, 7), change=changes(), keep=st.sampled_from(["private", "all"]))
@example(which=0, change=([], None), keep="private")
def test_no_mutation_makes_strip_raise_or_changes_what_pillow_decodes(draw, which, change, keep):
    data = bytearray(seeds(draw)[which])
    media_type = probe(bytes(data)).media_type
    edits, cut = change
    for at, byte in edits:
        data[int(at * (len(data) - 1))] = byte
    data = bytes(data[: len(data) if cut is None else int(cut * len(data))])
    found = same_pixels(data, media_type, keep)
    assert len(found) <= len(data) + 64
    look(data, media_type)
    exif_block(data, media_type)


@given(st.binary(max_size=64), st.sampled_from([JPEG, PNG, WEBP]))
def test_rubbish_never_raises(data, media_type):
    heads = {JPEG: b"\xff\xd8", PNG: b"\x89PNG\r\n\x1a\n", WEBP: b"RIFF\x10\0\0\0WEBPVP8X"}
    for one in (data, heads[media_type] + data):
        strip(one, media_type)
        look(one, media_type)


def test_a_hostile_file_of_markers_alone_does_not_take_long(jpeg):
    data = jpeg[:-2] + b"\xff\xda\0\2" * 1_000_000
    started = time.monotonic()
    strip(data, JPEG)
    assert time.monotonic() - started < 1
    with pytest.raises(NotAPicture):
        complete(jpeg[:20] + segment(0xFE, b"") * 10_000, probe(jpeg))


def test_a_segment_that_nobody_knows_is_cut_and_an_adobe_one_keeps_only_its_colours(jpeg: bytes) -> None:
    hidden = b"HIDDEN-4711"
    adobe = b"Adobe\0\x64\0\0\0\0\x01"
    strange = b"".join(
        b"\xff" + bytes([marker]) + (2 + len(payload)).to_bytes(2, "big") + payload
        for marker, payload in [
            (0xF0, hidden),
            (0xF7, hidden),
            (0x02, hidden),
            (0xEE, b"Adobe\0\x64\0\0\0\0\x01" + hidden),
        ]
    )
    photo = jpeg[:2] + strange + jpeg[2:]

    cut = bytes(strip(photo, "image/jpeg"))

    assert hidden not in cut
    assert adobe in cut
    assert Image.open(io.BytesIO(jpeg)).tobytes() == Image.open(io.BytesIO(cut)).tobytes()


@pytest.mark.parametrize("damage", [b"\0\0\0", b"XMP \xff\0\0\0"], ids=["stray bytes", "torn chunk"])
def test_a_webp_whose_parts_cannot_be_told_apart_is_made_anew_or_refused(damage: bytes, jpeg: bytes) -> None:
    out = io.BytesIO()
    camera = Image.Exif()
    camera[0x010F] = "SERIAL-4711"
    Image.open(io.BytesIO(jpeg)).save(out, "WEBP", exif=camera.tobytes())
    whole = out.getvalue()
    torn = whole[:4] + (len(whole) - 8 + len(damage)).to_bytes(4, "little") + whole[8:] + damage
    image = InputImage(torn, None, "image/webp", 640, 427)

    try:
        made = prepare_source(image).image.data or b""
    except InvalidRequest:
        made = b""

    assert b"SERIAL-4711" in torn
    assert b"SERIAL-4711" not in made


def iptc(**datasets: bytes) -> bytes:
    records = b"".join(
        b"\x1c\x02" + bytes([{"by_line": 80, "notice": 116}[name]]) + len(text).to_bytes(2, "big") + text
        for name, text in datasets.items()
    )
    return b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(records).to_bytes(4, "big") + records


XMP = (
    b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><dc:creator><rdf:Seq><rdf:li>Ada</rdf:li></rdf:Seq></dc:creator>"
    b'<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">(c) Ada &amp; Co</rdf:li></rdf:Alt></dc:rights></x:xmpmeta>'
)


@pytest.mark.parametrize(
    ("marker", "payload", "artist", "notice"),
    [
        (0xED, iptc(by_line=b"Ada", notice=b"(c) Ada"), "Ada", "(c) Ada"),
        (0xED, iptc(notice=b"(c) Ada"), None, "(c) Ada"),
        (0xE1, XMP, "Ada", "(c) Ada & Co"),
    ],
    ids=["iptc", "iptc notice", "xmp"],
)
def test_a_copyright_outside_of_exif_stays_and_all_else_of_its_block_goes(
    jpeg: bytes, marker: int, payload: bytes, artist: str | None, notice: str
) -> None:
    segment = b"\xff" + bytes([marker]) + (len(payload) + 2).to_bytes(2, "big") + payload
    photo = jpeg[:2] + segment + jpeg[2:]

    cut = bytes(strip(photo, JPEG))
    tags = Image.open(io.BytesIO(cut)).getexif()

    assert (artist, notice) == (tags.get(0x013B), tags.get(0x8298))
    assert payload not in cut
    assert notice.encode() not in bytes(strip(photo, JPEG, "all"))
    assert cut == bytes(strip(cut, JPEG))


def test_the_copyright_of_a_png_that_is_made_anew_stays(jpeg: bytes) -> None:
    out = io.BytesIO()
    text = PngImagePlugin.PngInfo()
    text.add_text("Copyright", "(c) Ada")
    Image.new("I;16", (30, 20), 40_000).save(out, "PNG", pnginfo=text)
    image = InputImage(out.getvalue(), None, "image/png", 30, 20)

    made = prepare_source(image).image.data

    assert made is not None
    assert "(c) Ada" == Image.open(io.BytesIO(made)).getexif().get(0x8298)
