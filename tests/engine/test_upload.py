"""The step before a submit: images that must be are put where the provider can fetch them, for free."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from anykontext.adapting import Call, InputImage, Kind, Purpose, Refused, Uploaded, UploadFacts, post
from anykontext.engine.effects import Loss, Send, Upload
from anykontext.engine.ends import Ended
from anykontext.engine.misfit import Misfit
from anykontext.engine.negotiate import negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate
from anykontext.engine.signing import UntrustedUrl, address
from anykontext.engine.submit import Accepted, submit_attempt
from anykontext.model.events import Progress, Retrying
from anykontext.model.request import ImageRequest
from anykontext_bfl import Bfl

URL = "https://files.example/1.png"
ORIGINS = {"api": "https://api.bfl.ai", "upload": "https://up.bfl.ai"}
SMALL = InputImage(b"x" * 10, None, "image/png", 4, 4, "small.png")
LARGE = InputImage(b"x" * 2000, None, "image/png", 4, 4, "large.png")
LINK = InputImage(None, "https://example.com/1.png", None, None, None, "a link")


class Uploading(Bfl):
    """BFL with an upload host: images over `over` bytes go there by a call of the adapter's."""

    def __init__(self, over: int = 1000, origin: str = "upload") -> None:
        self.facts = replace(Bfl.facts, uploads=UploadFacts(over, origin, None, public=True, evidence="toy-1"))

    def upload(self, image: InputImage) -> Call:
        return post(Purpose.UPLOAD, "/files", {"name": image.name}, origin="upload")

    def read(self, reply: Any, task: Any) -> Any:
        if reply.call.purpose is not Purpose.UPLOAD:
            return super().read(reply, task)
        url = reply.mapping().get("url")
        return Uploaded(url) if url else Refused(Kind.UNAVAILABLE, "the file host is down", shape="toy")


class ByTheSdk(Bfl):
    """BFL whose uploads are a vendor's SDK's."""

    facts = replace(Bfl.facts, uploads=UploadFacts(1000, "", None, public=True, evidence="toy-1"))


def run(lab: SimpleNamespace, world: Any, adapter: Any, *images: InputImage, **more: Any) -> Any:
    who = lab.candidate(adapter=adapter, **more)
    step = negotiate(ImageRequest("a cat", [b"x"] * len(images)), images, who, Policy())
    return world.run(submit_attempt(world.watch(), step, Policy(), is_last=True))


def sent(world: Any) -> list[bytes]:
    return [bytes(one.call.body) for one in world.submits]


def test_a_large_image_is_uploaded_and_its_url_submitted(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(200, {"url": URL}), lab.accepted()])

    outcome = run(lab, world, Uploading(), LARGE, SMALL, LINK, origins=ORIGINS)

    assert isinstance(outcome, Accepted)
    assert [one.call.purpose for one in world.sends] == [Purpose.UPLOAD, Purpose.SUBMIT]
    (body,) = sent(world)
    assert body.count(URL.encode()) == 1
    assert b"eHh4" in body  # the small one, in base64
    assert LINK.url is not None
    assert LINK.url.encode() in body
    assert [one.status for one in world.events(Progress)] == ["uploading large.png"]


def test_an_upload_goes_to_its_own_host_with_the_key(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(200, {"url": URL}), lab.accepted()])

    run(lab, world, Uploading(), LARGE, origins=ORIGINS)

    assert world.sends[0].address.url == "https://up.bfl.ai/files"
    assert world.sends[0].address.signed


def test_one_upload_serves_every_task_of_an_attempt(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(200, {"url": URL}), lab.accepted("one"), lab.accepted("two")])
    who = lab.candidate(adapter=Uploading(), origins=ORIGINS)
    step = negotiate(ImageRequest("a cat", b"x", num_images=2), [LARGE], who, Policy())

    world.run(submit_attempt(world.watch(), step, Policy(), is_last=True))

    assert [one.call.purpose for one in world.sends] == [Purpose.UPLOAD, Purpose.SUBMIT, Purpose.SUBMIT]
    assert all(URL.encode() in body for body in sent(world))


def test_a_failed_upload_is_no_failed_generation_and_nothing_is_submitted(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.said(503, "<html>"))

    end = run(lab, world, Uploading(), LARGE, origins=ORIGINS)

    assert isinstance(end, Ended)
    assert (end.kind, end.maybe_charged) == (Kind.UNAVAILABLE, False)
    assert end.message.startswith("large.png could not be uploaded, and nothing was submitted: ")
    assert not world.submits
    assert not world.entries
    assert len(world.sends) > 1
    assert {one.purpose for one in world.events(Retrying)} == {"upload"}


@pytest.mark.parametrize("loss", [Loss.AFTER_SENDING, Loss.NOT_CONNECTED])
def test_a_lost_upload_is_made_again_since_it_is_free(lab: SimpleNamespace, loss: Loss) -> None:
    world = lab.World([lab.lost(loss), lab.said(200, {"url": URL}), lab.accepted()])

    assert isinstance(run(lab, world, Uploading(), LARGE, origins=ORIGINS), Accepted)


def test_an_upload_heeds_the_deadline(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.lost(Loss.AFTER_SENDING), send_s=100.0)

    end = run(lab, world, Uploading(), LARGE, origins=ORIGINS)

    assert end.maybe_charged is False
    assert world.seconds <= 61
    assert not world.submits


def test_a_vendors_sdk_uploads_where_it_is_there(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted()], uploads=[Uploaded(URL)])

    run(lab, world, ByTheSdk(), LARGE, upload=lambda *_: URL)

    assert len(world.all_of(Upload)) == 1
    assert URL.encode() in sent(world)[0]


def test_what_a_vendors_sdk_refuses_is_the_end_of_the_attempt(lab: SimpleNamespace) -> None:
    world = lab.World(uploads=[Refused(Kind.AUTHENTICATION_FAILED, "no such key")])

    end = run(lab, world, ByTheSdk(), LARGE, upload=lambda *_: URL)

    assert (end.kind, end.maybe_charged, end.http_status) == (Kind.AUTHENTICATION_FAILED, False, None)
    assert "no such key" in end.message


def test_without_a_place_for_uploads_images_go_in_the_body(lab: SimpleNamespace) -> None:
    for adapter in (ByTheSdk(), Uploading()):
        world = lab.World([lab.accepted()])

        run(lab, world, adapter, LARGE)

        assert [one.call.purpose for one in world.sends] == [Purpose.SUBMIT]
        assert b"eHh4" in sent(world)[0]


def test_without_a_place_for_uploads_a_provider_that_only_takes_urls_is_out(lab: SimpleNamespace) -> None:
    who: Candidate = lab.candidate(adapter=Uploading(over=0))

    with pytest.raises(Misfit, match="takes images as url only"):
        negotiate(ImageRequest("a cat", b"x"), [SMALL], who, Policy())
    assert negotiate(ImageRequest("a cat", "https://example.com/1.png"), [LINK], who, Policy()).orders


def test_a_call_to_a_host_that_is_not_configured_is_refused(lab: SimpleNamespace) -> None:
    with pytest.raises(UntrustedUrl, match="has no 'upload' host"):
        address(Uploading().upload(SMALL), lab.provider())


def test_a_provider_is_told_when_a_task_is_of_no_use_any_more(lab: SimpleNamespace) -> None:
    orders: list[Any] = []

    class Told(Bfl):
        def submit(self, order: Any) -> Call:
            orders.append(order)
            return super().submit(order)

    world = lab.World([lab.said(503, {"detail": "Overloaded"}), lab.accepted()])
    step = lab.step(lab.candidate(adapter=Told()))
    world.run(submit_attempt(world.watch(60.0), step, Policy(), is_last=True))
    world = lab.World([lab.accepted()])
    world.run(submit_attempt(world.watch(60.0), step, Policy(), is_last=False))

    sent = [one for one in orders if one.start_within_s is not None]  # each is looked at once before
    assert [one.fails_fast for one in sent] == [False, False, True]
    assert sent[0].start_within_s == 60.0
    assert sent[1].start_within_s < 60.0
    assert isinstance(world.sends[0], Send)
