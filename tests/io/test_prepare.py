import asyncio
import io
import itertools
import time

import httpx
import pytest
from PIL import Image

from anykontext.adapting import InputLimits
from anykontext.engine.needs import needs
from anykontext.io import convert as converting
from anykontext.io import prepare
from anykontext.io.guard import async_guarded_client, guarded_client
from anykontext.io.inputs import load
from anykontext.io.prepare import afetch_source, fetch_source, fit, prepare_source
from anykontext.io.probe import JPEG, PNG, WEBP
from anykontext.model.errors import InvalidRequest
from anykontext.model.image import ImageSource, InputImage
from anykontext.model.result import Adjustment

OWN = frozenset({"127.0.0.1"})
ROOMY = InputLimits(("bytes", "url"), (JPEG, PNG, WEBP), 10**8, 10**8, "toy-1")


def limits(**changes):
    fields = {"forms": ("bytes",), "media_types": (JPEG, PNG, WEBP), "max_bytes": 10**8, "max_pixels": 10**8}
    return InputLimits(**{**fields, **changes}, evidence="toy-1")


def written(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def tag(turn=1):
    exif = Image.Exif()
    exif[0x0112] = turn
    exif[0x010F] = "A camera with a serial number"
    exif[0x8298] = "(c) Jane Doe"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 29.61)
    return exif


@pytest.fixture(scope="module")
def photo(jpeg):
    with Image.open(io.BytesIO(jpeg)) as image:
        image.load()
        image.info = {}
        return image.resize((120, 80))


def given(data):
    """An input image as `load` is to give it, other formats too."""
    kind = next((one for one in ("gif", "tiff", "bmp", "avif") if prepare.probe(data).media_type.endswith(one)), None)
    if kind:
        return InputImage(data, None, f"image/{kind}", None, None, "'it'")
    return load(ImageSource.of(data))


def pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGBA").tobytes()


# prepare_source


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_an_ordinary_picture_is_not_touched(photo, form):
    image = given(written(photo, form))
    found = prepare_source(image)
    assert found.image is image
    assert found.adjustments == ()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_metadata_is_cut_without_a_word_and_the_pixels_stay(photo, form, monkeypatch):
    monkeypatch.setattr(prepare, "convert", lambda *_: pytest.fail("it was made anew"))
    image = given(written(photo, form, exif=tag()))
    found = prepare_source(image)
    assert found.adjustments == ()
    assert b"serial" in image.data
    assert b"serial" not in found.image.data
    assert b"(c) Jane Doe" in found.image.data
    assert b"Jane" not in prepare_source(image, "all").image.data
    assert prepare_source(image, "keep").image is image
    assert pixels(found.image.data) == pixels(image.data)
    assert (found.image.width, found.image.height, found.image.name) == (120, 80, image.name)


@pytest.mark.parametrize("metadata", ["private", "all", "keep"])
def test_a_turned_picture_is_made_upright_with_an_adjustment(photo, metadata):
    found = prepare_source(given(written(photo, "JPEG", exif=tag(6))), metadata)
    assert (found.image.width, found.image.height, found.image.media_type) == (80, 120, JPEG)
    (one,) = found.adjustments
    assert (one.option, one.asked, one.sent) == ("images", "JPEG 120 x 80, orientation 6", "JPEG 80 x 120")
    assert "turned upright" in one.reason
    assert (b"serial" in found.image.data) == (metadata == "keep")
    assert prepare_source(found.image, metadata).adjustments == ()


@pytest.mark.parametrize(("form", "made"), [("GIF", "PNG"), ("BMP", "PNG"), ("TIFF", "JPEG"), ("AVIF", "JPEG")])
def test_formats_that_no_provider_takes_are_converted_with_an_adjustment(photo, form, made):
    found = prepare_source(given(written(photo, form)))
    (one,) = found.adjustments
    assert (one.asked, one.sent) == (form, f"{made} 120 x 80")
    assert one.reason == "no provider is known to take this format"
    assert found.image.media_type == f"image/{made.lower()}"
    assert (found.image.width, found.image.height) == (120, 80)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_sent_and_told(form):
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    found = prepare_source(given(written(frames[0], form, save_all=True, append_images=frames[1:])))
    (one,) = found.adjustments
    assert "only its first frame" in one.reason
    with Image.open(io.BytesIO(found.image.data)) as image:
        assert image.convert("RGB").getpixel((4, 4))[0] > 240


@pytest.mark.parametrize(("mode", "form", "word"), [("CMYK", "JPEG", "CMYK"), ("I;16", "PNG", "more than 8 bits")])
def test_print_colours_and_deep_ones_are_converted_with_an_adjustment(mode, form, word):
    found = prepare_source(given(written(Image.new(mode, (9, 9)), form)))
    (one,) = found.adjustments
    assert one.asked == f"{form} 9 x 9, {word}"
    assert prepare_source(found.image).image is found.image


def test_a_url_is_left_alone():
    image = load(ImageSource.of("https://example.org/a.gif"))
    assert prepare_source(image).image is image


def test_f36_too_many_pixels_are_refused_by_the_header():
    image = InputImage(b"\x89PNG", None, PNG, 20_000, 20_000, "'it'")
    with pytest.raises(InvalidRequest, match="'it' has 20000 x 20000 pixels, and at most 100 megapixels"):
        prepare_source(image)


def test_a_file_of_forty_megabytes_takes_no_time(photo):
    data = written(photo, "JPEG", exif=tag())
    data += bytes(40_000_000)
    image = given(data)
    started = time.perf_counter()
    found = prepare_source(image)
    assert time.perf_counter() - started < 1
    assert len(found.image.data) < 100_000
    noise = given(written(Image.new("L", (6000, 7000)), "PNG", compress_level=0, exif=tag()))
    started = time.perf_counter()
    found = prepare_source(noise)
    assert time.perf_counter() - started < 1
    assert 40_000_000 < len(found.image.data) < len(noise.data)


# needs and fit


def test_a_picture_that_fits_needs_nothing(photo):
    image = given(written(photo, "JPEG"))
    assert needs(image, ROOMY) is None
    assert fit(image, ROOMY) is image


def test_too_many_pixels_are_told_and_scaled(photo):
    image = given(written(photo, "JPEG"))
    small = limits(max_pixels=2400)
    found = needs(image, small)
    assert isinstance(found, Adjustment)
    assert found.asked == f"JPEG 120 x 80, {len(image.data):,} bytes"
    assert (found.option, found.sent, found.reason) == ("images", "JPEG 60 x 40", "it takes at most 2,400 pixels")
    made = fit(image, small)
    assert (made.width, made.height, made.media_type, made.name) == (60, 40, JPEG, image.name)
    assert needs(made, small) is None


def test_too_many_bytes_are_told_and_made_fewer(photo):
    image = given(written(photo, "JPEG", quality=95))
    small = limits(max_bytes=2000)
    found = needs(image, small)
    assert isinstance(found, Adjustment)
    assert found.sent == "at most 120 x 80, at most 2,000 bytes"
    made = fit(image, small)
    assert len(made.data) <= 2000
    assert needs(made, small) is None


@pytest.mark.parametrize(("form", "types", "made"), [("WEBP", (JPEG, PNG), JPEG), ("PNG", (JPEG,), JPEG)])
def test_a_format_that_one_provider_does_not_take_becomes_one_that_it_does(photo, form, types, made):
    image = given(written(photo, form))
    found = needs(image, limits(media_types=types))
    assert isinstance(found, Adjustment)
    assert found.reason.startswith(f"it takes {' or '.join(one[6:].upper() for one in types)} only")
    assert ("transparent parts become white" in found.reason) == (types == (JPEG,))
    assert made[6:].upper() in found.sent
    assert fit(image, limits(media_types=types)).media_type == made


def test_what_no_change_can_help_is_a_reason(photo):
    image = given(written(photo, "JPEG"))
    only_links = limits(forms=("url",))
    assert needs(image, only_links) == "it takes images as url only, and the image given as bytes is none"
    assert "nothing that" in needs(image, limits(media_types=("image/gif",)))
    with pytest.raises(InvalidRequest, match="as url only"):
        fit(image, only_links)


def test_a_url_goes_as_it_is_where_urls_are_taken_and_is_fetched_elsewhere(photo):
    image = load(ImageSource.of("https://example.org/a.jpg?sig=1"))
    assert needs(image, ROOMY) is None
    assert fit(image, ROOMY) is image
    found = needs(image, limits())
    assert (found.asked, found.sent) == ("a URL", "its bytes")
    with pytest.raises(InvalidRequest, match="was not fetched"):
        fit(image, limits())
    data = written(photo, "JPEG")
    fetched = InputImage(data, image.url, JPEG, 120, 80, image.name)
    assert needs(fetched, ROOMY) is None
    assert fit(fetched, ROOMY) == image
    told = needs(fetched, limits())
    assert told.asked == f"a URL (JPEG 120 x 80, {len(data):,} bytes)"
    assert told.sent == "JPEG 120 x 80"
    assert "fetched here" in told.reason
    assert "sig" not in str(told)
    assert fit(fetched, limits()) is fetched


def test_needs_knows_nothing_of_pillow():
    from anykontext.engine import needs as module

    assert not {"convert", "prepare", "PIL", "Image", "io"} & set(vars(module))


def test_one_pixel_passes_through_everything():
    for form in ("JPEG", "PNG", "GIF", "TIFF"):
        found = prepare_source(given(written(Image.new("RGB", (1, 1)), form))).image
        made = fit(found, limits(max_pixels=1, max_bytes=5000, media_types=(WEBP,)))
        assert (made.width, made.height, made.media_type) == (1, 1, WEBP)


# fetch_source


@pytest.fixture(params=["sync", "async"])
def fetched(request):
    """Fetch a URL with a guarded client, in both ways."""

    def sync(url, *, allowed=OWN, resolve=None, **options):
        with guarded_client(allowed, resolve=resolve) as client:
            return fetch_source(load(ImageSource.of(url)), client, **options)

    def asynchronous(url, *, allowed=OWN, resolve=None, **options):
        async def run():
            async with async_guarded_client(allowed, resolve=resolve) as client:
                return await afetch_source(load(ImageSource.of(url)), client, **options)

        return asyncio.run(run())

    return sync if request.param == "sync" else asynchronous


def refused(call, *given, **options):
    with pytest.raises(InvalidRequest) as caught:
        call(*given, **options)
    assert "sig" not in str(caught.value)
    return str(caught.value)


SIGNED = "/image.jpg?sig=a%2Bb"


def test_a_url_is_fetched_and_checked_and_stays_known(fetched, server, jpeg):
    server.replies(jpeg, "Content-Type: text/html")  # not believed
    image = fetched(server.url(SIGNED))
    assert (image.data, image.url, image.media_type, image.width) == (jpeg, server.url(SIGNED), JPEG, 640)
    assert image.name == repr(server.url("/image.jpg"))
    assert server.requests[0].startswith(b"GET /image.jpg?sig=a%2Bb HTTP/1.1\r\n")
    names = {line.split(b":")[0].lower() for line in server.requests[0].split(b"\r\n")[1:] if line}
    assert names == {b"host", b"accept", b"accept-encoding", b"user-agent"}


def test_what_has_bytes_is_not_fetched(fetched, photo):
    with guarded_client(OWN) as client:
        image = given(written(photo, "PNG"))
        assert fetch_source(image, client) is image

    async def run():
        async with async_guarded_client(OWN) as client:
            return await afetch_source(image, client)

    assert asyncio.run(run()) is image


def test_a_redirect_is_followed_and_one_to_a_private_address_is_refused(fetched, server, jpeg):
    server.replies(b"", "Location: /there", status="302 Found")
    server.replies(jpeg)
    assert fetched(server.url(SIGNED)).data == jpeg
    server.scripts[:] = []
    server.replies(b"", "Location: https://169.254.169.254/latest/meta-data", status="302 Found")
    message = refused(fetched, server.url(SIGNED))
    assert "169.254.169.254" in message
    assert message.endswith("Nothing was sent to a provider")


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"])
def test_a_public_name_that_leads_to_a_private_address_is_refused(fetched, address):
    message = refused(fetched, "https://cdn.example/a.jpg?sig=1", resolve=lambda *_: [address])
    assert f"'cdn.example' leads to {address}" in message


def test_http_and_localhost_are_refused(fetched):
    assert "only https is" in refused(fetched, "http://cdn.example/a.jpg", resolve=lambda *_: ["93.184.215.14"])
    assert "not a public address" in refused(fetched, "https://localhost/a.jpg", allowed=frozenset())


def test_f32_a_server_that_says_nothing_ends_in_time(fetched, server):
    server.answers(5.0)
    started = time.monotonic()
    assert "longer than 0.1 s" in refused(fetched, server.url(SIGNED), within_s=0.1)
    assert time.monotonic() - started < 2


def test_f32_a_slow_drip_ends_in_time(fetched, server, jpeg):
    drip = itertools.chain.from_iterable((0.02, jpeg[at : at + 1]) for at in range(200))
    server.answers(server.head(f"Content-Length: {len(jpeg)}"), *drip)
    started = time.monotonic()
    assert "longer than 0.15 s" in refused(fetched, server.url(SIGNED), within_s=0.15)
    assert time.monotonic() - started < 2


def test_f33_a_page_is_refused_before_all_of_it_has_come(fetched, server):
    server.answers(server.head("Content-Type: image/jpeg"), b"<html>" + b" " * 4000, 5.0)
    started = time.monotonic()
    assert "this is an HTML page, not an image; give the URL of the image" in refused(fetched, server.url(SIGNED))
    assert time.monotonic() - started < 2


def test_f33_a_short_page_is_refused(fetched, server):
    server.replies(b"<html>Please log in</html>")
    assert "this is an HTML page, not an image" in refused(fetched, server.url(SIGNED))


def test_f34_a_body_without_end_is_cut_at_the_limit(fetched, server, jpeg):
    server.answers(server.head(), jpeg[:60_000], *[b"x" * 60_000] * 100)
    assert "more than the 200000" in refused(fetched, server.url(SIGNED), max_bytes=200_000)


def test_f34_an_announced_oversize_is_refused(fetched, server):
    server.answers(server.head("Content-Length: 99999999999"), 5.0)
    assert "more than the 100000000" in refused(fetched, server.url(SIGNED))


@pytest.mark.parametrize("status", ["404 Not Found", "403 Forbidden", "500 Oops"])
def test_a_refusal_is_told_with_its_status(fetched, server, status):
    server.replies(b"<Error/>", status=status)
    assert f"HTTP status {status[:3]}" in refused(fetched, server.url(SIGNED))


def test_a_cut_image_and_a_lost_connection_are_refused(fetched, server, jpeg):
    server.replies(jpeg[:-5000])
    assert "cut off" in refused(fetched, server.url(SIGNED))
    server.scripts[:] = []
    server.answers("reset")
    assert "the connection failed" in refused(fetched, server.url(SIGNED))


def test_a_client_that_is_not_guarded_fetches_nothing(server, jpeg):
    server.replies(jpeg)
    image = load(ImageSource.of(server.url(SIGNED)))
    with httpx.Client() as client:
        assert "resolves names itself" in refused(fetch_source, image, client)

    async def run():
        async with httpx.AsyncClient() as client:
            await afetch_source(image, client)

    with pytest.raises(InvalidRequest, match="resolves names itself"):
        asyncio.run(run())
    assert server.requests == []


def test_a_slow_conversion_does_not_hold_the_lock_after_an_error(photo):
    free = converting._at_work._value
    with pytest.raises(InvalidRequest):
        prepare_source(given(written(photo, "BMP")[:100]))
    assert converting._at_work._value == free
