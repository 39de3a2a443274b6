"""Before a submit: put input images where the provider can fetch them. It is free, so it may be done again."""

from dataclasses import replace

from anykontext.adapting import Effective, InputImage, Refused, State, Uploaded, Uploads
from anykontext.engine.effects import Flow, Heard, Lost, Send, Sleep, Upload
from anykontext.engine.ends import Ended, ended_by
from anykontext.engine.money_table import Again, after_upload
from anykontext.engine.pace import PATIENCE_S, repeat_after
from anykontext.engine.provider import Provider
from anykontext.engine.renew import ask, has_new_key
from anykontext.engine.signing import address
from anykontext.engine.watch import Watch
from anykontext.model.errors import Kind
from anykontext.model.events import Progress, Retrying

UPLOAD_MAX_S = 120.0
FIRST_REPEAT_S = 0.5


def place_images(
    watch: Watch, provider: Provider, orders: tuple[Effective, ...], *, is_last: bool
) -> Flow[tuple[Effective, ...] | Ended]:
    """Upload the images that must be, once for all tasks of an attempt; the orders then hold their URLs.

    `is_last` says that no other candidate is left, so that a failure is worth some seconds of patience.
    """
    images = list(orders[0].images)
    for index, image in enumerate(images):
        if provider.must_upload(image):
            watch.see((yield watch.emit(Progress, status=f"uploading {image.name}")))
            placed = yield from _placed(watch, provider, image, patient=is_last)
            if isinstance(placed, Ended):
                return placed
            images[index] = placed
    return tuple(replace(order, images=tuple(images)) for order in orders)


def _placed(watch: Watch, provider: Provider, image: InputImage, *, patient: bool) -> Flow[InputImage | Ended]:
    troubles, waited = 0, 0.0
    while True:
        if watch.unpaid_left_s <= 0:
            message = f"{watch.limit} passed while {image.name} was uploaded"
            return Ended(Kind.DEADLINE_EXCEEDED, message, maybe_charged=False, advice="Send it with a longer deadline")
        heard, state = yield from _put(watch, provider, image)
        row = after_upload(heard, state)
        if row is None:
            assert isinstance(state, Uploaded)
            return replace(image, data=None, url=state.url)
        end = ended_by(row, heard, state)
        end = replace(end, message=f"{image.name} could not be uploaded, and nothing was submitted: {end.message}")
        troubles += 1
        pause = repeat_after(watch, troubles, end.retry_after, first_s=FIRST_REPEAT_S)
        waited += pause
        if row.again is Again.NEVER or not patient or waited > PATIENCE_S:
            return end
        if pause >= watch.unpaid_left_s:
            return replace(end, kind=Kind.DEADLINE_EXCEEDED, message=f"{end.message}; {watch.limit} has passed")
        watch.see((yield watch.emit(Retrying, purpose="upload", reason=end.message, wait_s=pause)))
        watch.see((yield Sleep(pause)))


def _put(watch: Watch, provider: Provider, image: InputImage) -> Flow[tuple[Heard | None, State | None]]:
    """Upload one image: by a call of the adapter's, or by the vendor's SDK, which leaves no reply to look at."""
    within_s = min(watch.unpaid_left_s, UPLOAD_MAX_S)
    adapter = provider.adapter
    if isinstance(adapter, Uploads):
        call = adapter.upload(image)
        return (yield from ask(watch, Send(call, provider, address(call, provider), within_s), None))
    told: Uploaded | Refused | Lost = watch.see((yield Upload(image, provider, within_s)))
    renewed = yield from has_new_key(watch, provider, None if isinstance(told, Lost) else told)
    if renewed and watch.left_s > 0:
        told = watch.see((yield Upload(image, provider, min(watch.unpaid_left_s, UPLOAD_MAX_S))))
    return (told, None) if isinstance(told, Lost) else (None, told)
