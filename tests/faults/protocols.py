"""How each provider says things: written from what the providers document and send, and not from the adapters.

A `Speech` is data: replies by name, each made for a `Place` (where the server is, and which task is meant). A server
that speaks is `Speaker`: it plays the whole way from submit to picture, except where a test says otherwise.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .server import FaultServer, Request, Step, jpeg, reply

# A provider may repeat what it was sent. None of it may be seen again.
PICTURE = "iVBORw0KGgoAAAANSUhEUgAA" * 40
DATA_URI = f"data:image/png;base64,{PICTURE}"
ECHO = "what-was-put-in"
HTML = b"<html><head><title>Just a moment</title></head><body>nginx</body></html>"


class Place(NamedTuple):
    """Where a provider is, and which task it speaks of."""

    url: str = "http://127.0.0.1:9"
    task: str = "task-1"

    @property
    def image(self) -> str:
        return f"{self.url}/image.jpeg"


@dataclass(frozen=True)
class Said:
    """A reply: status, body (anything but bytes becomes JSON), and headers."""

    status: int
    body: Any
    headers: tuple[str, ...] = ()

    def plain(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Saying = Callable[[Place], Said]
Ways = Mapping[str, tuple[str, Saying]]  # a name -> at which stage it is said, and what


@dataclass(frozen=True)
class Speech:
    """How one provider speaks.

    `stages` tells, by the first pattern that fits "METHOD /target", what a request is; the task's id stands in the
    target of a poll. `images` is how many pictures one task makes. `cannot` are the faults that it has no words for.
    """

    name: str
    key: str
    stages: Mapping[str, str]
    replies: Mapping[str, Saying]  # what it says at each stage when all goes well; "running" before the last "poll"
    nameless: Mapping[str, Saying]  # accepted, without a task id (F19); at a synchronous one: without an image
    refused: Mapping[str, tuple[Saying, str]]  # an error in a reply of 200 at the submit -> the class it means (F18)
    lost: Ways  # "no such task" (F20, F21)
    trouble: Ways  # 5xx of its own and of what stands before it, while the task runs (F22)
    odd: tuple[Saying, str] | None  # a status word that nobody knows (F23)
    backwards: tuple[tuple[str, Saying], ...]  # what it says when the status goes back (F24)
    moderated: Ways  # F25
    failed: Mapping[str, tuple[str, Saying, bool]]  # F26; and whether the provider may bill it
    empty: Ways  # finished, without a link (F27)
    junk: tuple[str, Saying] | None  # finished, with a wrong type in every field that is not needed (F44)
    images: int = 1
    cannot: Mapping[str, str] = field(default_factory=dict)

    @property
    def end(self) -> str:
        """The stage at which it says where the picture is."""
        return "fetch" if "fetch" in self.stages else "poll" if "poll" in self.stages else "submit"

    def stage(self, asked: str) -> str | None:
        return next((stage for stage, pattern in self.stages.items() if re.match(pattern, asked)), None)


def said(status: int, body: Any, *headers: str) -> Saying:
    """The same words about every task."""
    return lambda place: Said(status, body, headers)


PAGE = said(502, HTML, "Content-Type: text/html")

# ------------------------------------------------------------------------------------------------ Black Forest Labs


def bfl(code: int = 200, **fields: Any) -> Saying:
    """A reply of get_result (bfl sheet, 10.5): the nulls are sent."""
    nothing = {"result": None, "progress": None, "details": None, "preview": None}
    return lambda place: Said(code, {"id": place.task, **nothing, **fields}, ("Retry-After: 1",))


def bfl_ready(result: Mapping[str, Any] | None = None, **fields: Any) -> Saying:
    """A finished one (10.7), with some fields changed."""
    usual = {"prompt": "a cat", "seed": 42, "start_time": 1766072345.1, "end_time": 1766072347.6, "duration": 2.4}
    return lambda place: bfl(status="Ready", result={"sample": place.image, **usual, **(result or {})}, **fields)(place)


def bfl_accepted(**fields: Any) -> Saying:
    """What a submit answers (10.2)."""
    costs = {"cost": None, "input_mp": None, "output_mp": None}
    return lambda place: Said(
        200, {"id": place.task, "polling_url": f"{place.url}/v1/get_result?id={place.task}", **costs, **fields}
    )


NOT_FOUND = bfl(404, status="Task not found")
BFL = Speech(
    name="bfl",
    key="bfl_k3y-THAT-n0body-may-see-0123456789",
    stages={"submit": r"POST /v1/flux-kontext-pro$", "poll": r"GET /v1/get_result\?id="},
    replies={
        "submit": bfl_accepted(),
        "running": bfl(status="Pending", progress=0.1),
        "poll": bfl_ready(cost=4.0),
    },
    nameless={
        "missing": lambda place: Said(200, {"polling_url": f"{place.url}/v1/get_result?id=1"}),
        "empty": bfl_accepted(id=""),
        "null": bfl_accepted(id=None),
        "a number": bfl_accepted(id=7),
        "a list": bfl_accepted(id=["task-1"]),
    },
    refused={"in its own shape": (said(200, {"detail": "Insufficient credits"}), "OutcomeUnknown")},
    lost={"404 with a status": ("poll", NOT_FOUND)},
    trouble={
        "500 with a detail": ("poll", said(500, {"detail": "Internal Server Error"})),
        "503 with a detail": ("poll", said(503, {"detail": "Service Unavailable"}, "Retry-After: 0")),
        "503 with a status": ("poll", bfl(503, status="Pending")),
        "a page": ("poll", PAGE),
    },
    odd=(bfl(status="Levitating"), "Levitating"),
    backwards=(
        ("poll", bfl(status="Generating", progress=0.9)),
        ("poll", bfl(status="Pending", progress=0.2)),
        ("poll", NOT_FOUND),
        ("poll", bfl(status="Pending")),
    ),
    moderated={
        "the prompt": (
            "poll",
            bfl(status="Request Moderated", details={"Moderation Reasons": ["Derivative Works Filter"]}),
        ),
        "the result": ("poll", bfl(status="Content Moderated")),
    },
    failed={
        "422 with a status": ("poll", bfl(422, status="Error", details={"error": "Invalid or corrupted image"}), False),
        "200 without a reason": ("poll", bfl(status="Error"), False),
    },
    empty={
        "no result": ("poll", bfl(status="Ready")),
        "no sample": ("poll", bfl(status="Ready", result={"seed": 42})),
        "an empty sample": ("poll", bfl_ready({"sample": ""})),
        "a null sample": ("poll", bfl_ready({"sample": None})),
    },
    junk=(
        "poll",
        bfl_ready({"seed": "42", "prompt": 7, "duration": [], "start_time": {}}, cost="4", progress="x", details=[[]]),
    ),
)

# ------------------------------------------------------------------------------------------------------------ fal.ai

FAL_APP = "/fal-ai/flux-pro/requests"


def fal(code: int, status: str, **fields: Any) -> Saying:
    """The object of the queue (fal sheet, 10.1): at the submit, and at every poll."""

    def queued(place: Place) -> Said:
        one = f"{place.url}{FAL_APP}/{place.task}"
        links = {"response_url": one, "status_url": f"{one}/status", "cancel_url": f"{one}/cancel"}
        body = {"status": status, "request_id": place.task, **links, "logs": None, "metrics": {}, **fields}
        return Said(code, {key: value for key, value in body.items() if value is not ...})

    return queued


def fal_result(image: Mapping[str, Any] | None = None, **fields: Any) -> Saying:
    """The model's own reply (10.4)."""

    def result(place: Place) -> Said:
        one = {"url": place.image, "width": 40, "height": 24, "content_type": "image/jpeg", **(image or {})}
        usual = {"seed": 2841475369, "images": [one], "prompt": "", "timings": {}, "has_nsfw_concepts": [False]}
        return Said(200, {**usual, **fields}, ("X-Fal-Billable-Units: 1", "x-fal-request-id: 1"))

    return result


def fal_finding(kind: str, message: str) -> Saying:
    """A 422 of the model, which repeats its input (10.6)."""
    found = {"loc": ["body", "prompt"], "msg": message, "type": kind, "input": ECHO + DATA_URI}
    return said(422, {"detail": [found]}, "x-fal-request-id: 1")


POLICY = "The content could not be processed because it contained material flagged by a content checker."
COMPLETED = fal(200, "COMPLETED", metrics={"inference_time": 3.42})
IN_QUEUE = fal(202, "IN_QUEUE", queue_position=2)
FAL = Speech(
    name="fal",
    key="0f3e9c1a-1234-4abc-8def-n0body-may-see:9d7c5b3a1f0e2d4c6b8a",
    stages={
        "submit": r"POST /fal-ai/flux-pro/kontext/text-to-image",
        "poll": rf"GET {FAL_APP}/[^/]+/status",
        "fetch": rf"GET {FAL_APP}/[^/]+$",
    },
    replies={
        "submit": fal(200, "IN_QUEUE", queue_position=0),
        "running": fal(202, "IN_PROGRESS"),
        "poll": COMPLETED,
        "fetch": fal_result(),
    },
    nameless={
        "missing": fal(200, "IN_QUEUE", request_id=...),
        "empty": fal(200, "IN_QUEUE", request_id=""),
        "null": fal(200, "IN_QUEUE", request_id=None),
        "a number": fal(200, "IN_QUEUE", request_id=7),
        "a list": fal(200, "IN_QUEUE", request_id=["task-1"]),
    },
    refused={"in its own shape": (said(200, {"detail": "User is locked."}), "OutcomeUnknown")},
    lost={
        "404 at the status": ("poll", said(404, {"status": "NOT_FOUND"})),
        "404 at the result": ("fetch", said(404, {"detail": "Request not found"})),
    },
    trouble={
        "500 with a detail": ("poll", said(500, {"detail": "Internal Server Error"})),
        "503 with a type": ("poll", said(503, {"detail": "x", "error_type": "runner_connection_error"})),
        "a page at the status": ("poll", PAGE),
        "a page at the result": ("fetch", PAGE),
    },
    odd=(fal(202, "LEVITATING"), "LEVITATING"),
    backwards=(
        ("poll", fal(202, "IN_PROGRESS")),
        ("poll", IN_QUEUE),
        ("poll", COMPLETED),
        ("fetch", said(400, {"detail": "Request is still in progress"})),
        ("poll", IN_QUEUE),
    ),
    moderated={
        "the prompt": ("fetch", fal_finding("content_policy_violation", POLICY)),
        "the result": ("fetch", fal_result(has_nsfw_concepts=[True])),
    },
    failed={
        "no media": ("fetch", fal_finding("no_media_generated", "No image was made"), True),
        "500 with a detail": ("fetch", said(500, {"detail": "Internal Server Error"}, "x-fal-request-id: 1"), False),
    },
    empty={
        "no images": ("fetch", fal_result(images=[])),
        "null images": ("fetch", fal_result(images=None)),
        "an empty url": ("fetch", fal_result({"url": ""})),
        "a null url": ("fetch", fal_result({"url": None})),
    },
    junk=(
        "fetch",
        fal_result(
            {"width": "40", "height": None, "content_type": 7, "file_size": "big"},
            seed="7",
            prompt=7,
            timings=[],
            has_nsfw_concepts=None,
        ),
    ),
    images=4,
)

# ------------------------------------------------------------------------------------------------------------ kie.ai


def kie(data: Any, *, code: Any = 200, msg: str = "success", status: int = 200) -> Saying:
    """The envelope (kie sheet, 4): the code in the body is the truth."""
    return said(status, {"code": code, "msg": msg, "data": data})


def kie_record(flag: Any, response: Any = None, **fields: Any) -> Saying:
    """A reply of record-info (12.3)."""
    usual = {"paramJson": '{"prompt":"a cat"}', "completeTime": None, "createTime": "2024-03-20T10:25:00Z"}

    def record(place: Place) -> Said:
        data = {"taskId": place.task, **usual, "response": response, "successFlag": flag, "errorCode": None}
        return kie({**data, "errorMessage": "", **fields})(place)

    return record


def kie_done(response: Mapping[str, Any] | None = None, **fields: Any) -> Saying:
    """A finished one, with some fields changed."""

    def done(place: Place) -> Said:
        links = {"originImageUrl": None, "resultImageUrl": place.image, **(response or {})}
        return kie_record(1, links, **{"completeTime": "2024-03-20T10:30:00Z", "errorCode": 0, **fields})(place)

    return done


def kie_accepted(**data: Any) -> Saying:
    return lambda place: kie({"taskId": place.task, **data})(place)


KIE_FLAGGED = "The input or output was flagged as sensitive. Please try again with different inputs."
KIE_500 = "Server Error - An unexpected error occurred while processing the request"
KIE = Speech(
    name="kie",
    key="k1e-n0body-may-see-9d7c5b3a1f0e2d4c",
    stages={
        "submit": r"POST /api/v1/flux/kontext/generate$",
        "poll": r"GET /api/v1/flux/kontext/record-info\?taskId=",
    },
    replies={"submit": kie_accepted(), "running": kie_record(0), "poll": kie_done()},
    nameless={
        "missing": kie({}),
        "empty": kie({"taskId": ""}),
        "null": kie({"taskId": None}),
        "a number": kie({"taskId": 7}),
        "a list": kie({"taskId": ["task-1"]}),
        "null data": kie(None),
        "a text for data": kie("task-1"),
        "a list for data": kie([{"taskId": "task-1"}]),
    },
    refused={
        "401": (kie(None, code=401, msg="You do not have access permissions"), "AuthenticationFailed"),
        "402": (kie(None, code=402, msg="Insufficient credits"), "OutOfCredit"),
        "404": (kie(None, code=404, msg="Not found"), "RequestRejected"),
        "408": (kie(None, code=408, msg="Upstream is currently experiencing service issues."), "OutcomeUnknown"),
        "422": (kie(None, code=422, msg="url is wrong"), "RequestRejected"),
        "429": (kie(None, code=429, msg="Too many requests"), "RateLimited"),
        "455": (kie(None, code=455, msg="Service unavailable, maintenance"), "Unavailable"),
        "500": (kie(None, code=500, msg=KIE_500), "OutcomeUnknown"),
        "505": (kie(None, code=505, msg="Feature disabled"), "RequestRejected"),
    },
    lost={
        "null data": ("poll", kie(None)),
        "422": ("poll", kie(None, code=422, msg="recordInfo is null")),
        "404": ("poll", kie(None, code=404, msg="Not found")),
    },
    trouble={
        "500 in the body": ("poll", kie(None, code=500, msg=KIE_500)),
        "500 at both places": ("poll", kie(None, code=500, msg=KIE_500, status=500)),
        "455 in the body": ("poll", kie(None, code=455, msg="maintenance")),
        "429 in the body": ("poll", kie(None, code=429, msg="Too many requests")),
        "a page": ("poll", PAGE),
    },
    odd=(kie_record(97), "97"),
    backwards=(("poll", kie_record(0)), ("poll", kie(None)), ("poll", kie_record(0))),
    moderated={
        "in the code": ("poll", kie(None, code=400, msg="Your prompt was flagged as violating content policies.")),
        "in the text": ("poll", kie_record(3, errorMessage=KIE_FLAGGED, errorCode=400)),
    },
    failed={
        "create failed": ("poll", kie_record(2), False),  # its upstream did not take it: inferred, 13.4
        "failed without a reason": ("poll", kie_record(3), True),
        "501 in the body": ("poll", kie(None, code=501, msg="Image generation task failed"), True),
    },
    empty={
        "no response": ("poll", kie_record(1)),
        "no link": ("poll", kie_record(1, {"originImageUrl": "http://127.0.0.1:9/origin.jpeg"})),
        "an empty link": ("poll", kie_done({"resultImageUrl": ""})),
        "a null link": ("poll", kie_done({"resultImageUrl": None})),
    },
    junk=("poll", kie_done({"originImageUrl": 7}, paramJson=[], completeTime={}, createTime=1, errorMessage=None)),
)

# ------------------------------------------------------------------------------------------------------- Together AI


def together(data: Any, **fields: Any) -> Saying:
    """The list of pictures that a submit is answered with."""
    return said(200, {"id": "oFc9-1", "model": "black-forest-labs/FLUX.1-kontext-pro", "object": "list", "data": data})


def together_error(status: int, message: str) -> Saying:
    return said(status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}})


def together_link(**fields: Any) -> Saying:
    return lambda place: together([{"index": 0, "url": place.image, "type": "url", **fields}])(place)


NO_TASKS = "there is no task, and so no poll: the reply to the submit is the end"
TOGETHER = Speech(
    name="together",
    key="t0gether-n0body-may-see-9d7c5b3a1f0e",
    stages={"submit": r"POST /v1/images/generations$"},
    replies={"submit": together_link()},
    nameless={
        "no data": said(200, {"id": "oFc9-1", "object": "list"}),
        "null data": together(None),
        "an empty list": together([]),
        "no picture": together([{"index": 0, "type": "url"}]),
        "an empty link": together_link(url=""),
        "a number for a link": together_link(url=7),
        "a list of lists": together([[]]),
        "an empty text": together([{"index": 0, "b64_json": "", "type": "b64_json"}]),
    },
    refused={"in its own shape": (together_error(200, "Invalid API key"), "OutcomeUnknown")},
    lost={},
    trouble={},
    odd=None,
    backwards=(),
    moderated={"the prompt": ("submit", together_error(422, "image may contain NSFW content"))},
    failed={},
    empty={},
    junk=("submit", together_link(index="first", type=7, seed="x")),
    images=4,
    cannot={
        "F19, duplicate": "there is no task id",
        "F20": NO_TASKS,
        "F21": NO_TASKS,
        "F22": NO_TASKS,
        "F23": NO_TASKS,
        "F24": NO_TASKS,
        "F26": "a failure is an HTTP error, which leaves open whether a picture was made (F14)",
        "F27": "without a picture it says nothing of what became of the request (F19)",
    },
)

SPEECHES = {speech.name: speech for speech in (BFL, FAL, KIE, TOGETHER)}


class Speaker(FaultServer):
    """A provider on a real socket: all goes well, except where `once` or `always` say otherwise.

    `once[stage]` is used up reply by reply; `always[stage]` is said for ever after that. Each submit makes a task of
    its own, whose first poll says that it runs.
    """

    def __init__(self, speech: Speech) -> None:
        self.speech = speech
        self.once: dict[str, list[Saying | tuple[Step, ...]]] = defaultdict(list)
        self.always: dict[str, Saying | tuple[Step, ...]] = {}
        self.tasks: list[str] = []
        self.asked: Counter[str] = Counter()
        super().__init__()

    def heard(self, stage: str) -> list[Request]:
        """The requests of one stage."""
        return [one for one in self.requests if self.speech.stage(f"{one.method} {one.target}") == stage]

    def _script(self, request: Request) -> tuple[Step, ...]:
        stage = self.speech.stage(f"{request.method} {request.target}")
        if stage is None:
            picture = request.target.startswith("/image.jpeg")
            return (reply(jpeg(), "Content-Type: image/jpeg") if picture else reply(b"?", status="405 No"),)
        if stage == "submit":
            self.tasks.append(f"task-{len(self.tasks) + 1}")
        task = next((one for one in self.tasks if re.search(rf"\b{one}\b", request.target)), self.tasks[-1])
        saying = self.once[stage].pop(0) if self.once[stage] else self.always.get(stage)
        if isinstance(saying, tuple):
            return saying
        if saying is None:
            self.asked[request.target] += 1
            running = stage == "poll" and self.asked[request.target] == 1
            saying = self.speech.replies["running" if running else stage]
        return (spoken(saying(Place(self.url, task))),)


def spoken(what: Said) -> bytes:
    """A reply as it goes over the wire."""
    return reply(what.plain(), *what.headers, status=f"{what.status} As It Is")
