"""Adapters with one defect each, for `test_the_contract_itself.py`; no test module, so that nothing runs by itself."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import orjson

from anykontext.adapting import (
    Call,
    Effective,
    Failed,
    Kind,
    Purpose,
    Refused,
    Rejection,
    Reply,
    Running,
    State,
    Succeeded,
    Task,
    json_body,
)
from anykontext.model.errors import Moderated
from anykontext.testing import AdapterContract, End
from anykontext_bfl import Bfl
from anykontext_bfl.emulator import Emulator

from . import test_bfl


def edited(call: Call, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Call:
    return replace(call, body=json_body(change(orjson.loads(bytes(call.body or b"{}")))))


ONE_MODEL = {"flux-kontext-pro": Bfl.facts.models["flux-kontext-pro"]}


class Sound(Bfl):
    facts = replace(Bfl.facts, models=ONE_MODEL)


class LosesAField(Sound):
    def submit(self, order: Effective) -> Call:
        return super().submit(replace(order, aspect_ratio=None))


class DropsSeedZero(Sound):
    def submit(self, order: Effective) -> Call:
        return super().submit(replace(order, seed=order.seed or None))


class LosesTheLastImage(Sound):
    def submit(self, order: Effective) -> Call:
        return super().submit(replace(order, images=order.images[:3]))


class MergesExtraFirst(Sound):
    def submit(self, order: Effective) -> Call:
        plain = super().submit(replace(order, extra={}))
        return edited(plain, lambda fields: {**order.extra, **fields})


class SendsAKey(Sound):
    def submit(self, order: Effective) -> Call:
        return replace(super().submit(order), headers={"x-key": "bfl_0123"})


class SendsElsewhere(Sound):
    def poll(self, task: Task) -> Call:
        return replace(super().poll(task), path="https://polls.example/" + task.id)


class RewritesThePollUrl(Sound):
    def poll(self, task: Task) -> Call:
        return super().poll(replace(task, poll_url=task.poll_url and task.poll_url.replace("%2F", "/")))


class PollsById(Sound):
    def poll(self, task: Task) -> Call:
        return super().poll(Task("the-last-one"))


class BelievesAnyStatus(Sound):
    def read(self, reply: Reply, task: Task | None) -> State:
        found = super().read(reply, task)
        if isinstance(found, Running) and not found.known and found.raw_status.startswith("zz"):
            return Succeeded((), found.task)
        return found


class SwallowsAStatus(Sound):
    def read(self, reply: Reply, task: Task | None) -> State:
        found = super().read(reply, task)
        if isinstance(found, Failed) and found.kind is Kind.GENERATION_FAILED:
            return Running(task or Task("?"), "Pending")
        return found


class EndsAnUnknownStatus(Sound):
    def read(self, reply: Reply, task: Task | None) -> State:
        found = super().read(reply, task)
        if isinstance(found, Running) and not found.known and reply.call.purpose is Purpose.POLL:
            return Failed(Kind.GENERATION_FAILED, found.raw_status, maybe_charged=True)
        return found


class RaisesOnHtml(Sound):
    def read(self, reply: Reply, task: Task | None) -> State:
        if reply.body.startswith(b"<"):
            raise ValueError("no JSON")
        return super().read(reply, task)


class SaysThatItIsFree(Sound):
    def read(self, reply: Reply, task: Task | None) -> State:
        found = super().read(reply, task)
        return replace(found, maybe_charged=True) if isinstance(found, Failed) else found


class TakesAPageForARejection(Sound):
    def read(self, reply: Reply, task: Task | None) -> State:
        found = super().read(reply, task)
        if isinstance(found, Refused) and reply.status == 502:
            return Refused(Kind.UNAVAILABLE, "a page", shape="detail")
        return found


class RemembersTheLastSeed(Sound):
    def submit(self, order: Effective) -> Call:
        self.last = order.seed
        return super().submit(order)


class ClaimsARejection(Sound):
    facts = replace(Sound.facts, rejections=(*Sound.facts.rejections, Rejection(502, "detail", "bfl-16")))


class ClaimsWithoutEvidence(Sound):
    facts = replace(Sound.facts, rejections=(Rejection(500, "detail", "bfl-99"), Sound.facts.rejections[1]))


class ListsATimeout(Sound):
    facts = replace(Sound.facts, rejections=(*Sound.facts.rejections, Rejection(504, "detail", "bfl-16")))


class HasAKeylessHeader(Sound):
    facts = replace(Sound.facts, auth=("x-key", "secret"))


class CountsExtraFields(Sound):
    def read(self, reply: Reply, task: Task | None) -> State:
        found = super().read(reply, task)
        if isinstance(found, Running) and "zz_new" in reply.mapping():
            return replace(found, known=False)
        return found


class TrustsTypes(Sound):
    def read(self, reply: Reply, task: Task | None) -> State:
        if reply.call.purpose is Purpose.POLL and (reply.mapping().get("progress") or 0) > 1:
            return Refused(Kind.PROTOCOL_ERROR, "more than all of it")
        return super().read(reply, task)


class TurnsTheImages(Sound):
    def submit(self, order: Effective) -> Call:
        return super().submit(replace(order, images=order.images[::-1]))


class TurnsTheRatio(Sound):
    def submit(self, order: Effective) -> Call:
        ratio = order.aspect_ratio and ":".join(order.aspect_ratio.split(":")[::-1])
        return super().submit(replace(order, aspect_ratio=ratio))


class InvertsAToggle(Sound):
    def submit(self, order: Effective) -> Call:
        wish = order.prompt_upsampling
        return super().submit(replace(order, prompt_upsampling=None if wish is None else not wish))


class CutsThePrompt(Sound):
    def submit(self, order: Effective) -> Call:
        return super().submit(replace(order, prompt=order.prompt[:500]))


class CutsTheSeed(Sound):
    def submit(self, order: Effective) -> Call:
        return super().submit(replace(order, seed=order.seed and order.seed & 0x7FFFFFFF))


class HasAFieldOfAnotherName(Sound):
    def submit(self, order: Effective) -> Call:
        renamed = {"safety_tolerance": "safety"}
        return edited(super().submit(order), lambda sent: {renamed.get(name, name): sent[name] for name in sent})


class TakesNoWebp(Sound):
    def submit(self, order: Effective) -> Call:
        images = tuple(replace(one, data=b"") if one.media_type == "image/webp" else one for one in order.images)
        return super().submit(replace(order, images=images))


class SendsAToken(Sound):
    def submit(self, order: Effective) -> Call:
        return replace(super().submit(order), headers={"x-auth-token": "0123"})


class SignsInTheQuery(Sound):
    def check(self) -> Call:
        return replace(super().check(), path="/v1/credits?api_key=0123")


class UnescapesALink(Sound):
    def read(self, reply: Reply, task: Task | None) -> State:
        found = super().read(reply, task)
        if not isinstance(found, Succeeded):
            return found
        return replace(found, outputs=tuple(replace(one, url=(one.url or "").lower()) for one in found.outputs))


class BelievesAnySeed(Sound):
    def read(self, reply: Reply, task: Task | None) -> State:
        found = super().read(reply, task)
        if not isinstance(found, Succeeded) or not isinstance(result := found.raw.get("result"), dict):
            return found
        return replace(found, seed=result.get("seed"))


class TrustsATopLevelDomain(Sound):
    facts = replace(Sound.facts, trusted=("ai",))


class DownloadsFromAnywhere(Sound):
    facts = replace(Sound.facts, delivery=("*.com",))


class Pure(AdapterContract):
    """Everything but sockets, which take their time."""

    documented = test_bfl.TestBfl.documented
    cassettes = test_bfl.TestBfl.cassettes
    package = "anykontext_bfl"


class TestSound(Pure):
    adapter = Sound()


class TestImpure(Pure):
    adapter = Sound()
    package = "anykontext_bfl.emulator"


class TestUndocumented(Pure):
    adapter = Sound()
    documented = ()


class TestSaysThatItInverts(Pure):
    adapter = InvertsAToggle()
    inverted: ClassVar = {"prompt_upsampling": "its field is the other way round"}


class TestNamesItsHeader(Pure):
    adapter = SendsAToken()
    headers: ClassVar = {"X-Auth-Token": "a token that is no key"}


class TestSaysThatItRewords(Pure):
    adapter = TurnsTheRatio()
    reworded: ClassVar = {"aspect_ratio": "height first"}


class TestWithoutItsCassettes(Pure):
    adapter = Sound()
    cassettes = "no/such/folder"


class TestRefusedForNothing(Pure):
    adapter = Sound()
    without_faults: ClassVar = {"failed": ""}


class TestLiesAboutAFault(Pure):
    adapter = Bfl()
    emulator = Emulator
    ends: ClassVar = {"failed": End(Moderated, accepted=1, because="a lie")}


BROKEN = (
    *(LosesAField, DropsSeedZero, LosesTheLastImage, MergesExtraFirst, SendsAKey, SendsElsewhere, RewritesThePollUrl),
    *(PollsById, BelievesAnyStatus, SwallowsAStatus, EndsAnUnknownStatus, RaisesOnHtml, SaysThatItIsFree),
    *(TakesAPageForARejection, RemembersTheLastSeed, ClaimsARejection, ClaimsWithoutEvidence, ListsATimeout),
    *(HasAKeylessHeader, CountsExtraFields, TrustsTypes, TurnsTheImages, TurnsTheRatio, InvertsAToggle),
    *(CutsThePrompt, CutsTheSeed, HasAFieldOfAnotherName, TakesNoWebp, SendsAToken, SignsInTheQuery, UnescapesALink),
    *(BelievesAnySeed, TrustsATopLevelDomain, DownloadsFromAnywhere),
)
globals().update({f"Test{one.__name__}": type(f"Test{one.__name__}", (Pure,), {"adapter": one()}) for one in BROKEN})
