"""Translation between the canonical words and fal's: pure functions, no key, no clock."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from itertools import zip_longest
from typing import Any
from urllib.parse import quote

from anykontext.adapting import (
    Balance,
    Base64,
    Call,
    Cancelling,
    Effective,
    Facts,
    Fetch,
    InputImage,
    Kind,
    Output,
    Purpose,
    Refused,
    Reply,
    Running,
    State,
    Succeeded,
    Task,
    get,
    json_body,
    post,
)
from anykontext_fal.endpoints import ENDPOINTS, SEVERAL
from anykontext_fal.errors import failed, refused
from anykontext_fal.facts import FACTS

IN_FLIGHT = frozenset({"IN_QUEUE", "IN_PROGRESS"})  # fal-3: COMPLETED is the only other word
TOO_EARLY = "Request is still in progress"
UNKNOWN_TASK = "Request not found"
NAMESPACES = frozenset({"workflows", "comfy"})  # their apps have names of three parts
START_MIN_S = 2  # fal-15: documented are seconds above 0.1, and the vendor's clients refuse 1 and less
UNITS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?", re.ASCII)
FLAGGED = "has_nsfw_concepts"
LONGEST_URL = 4_096
WRITTEN: Mapping[str, Callable[[Any], Any]] = {  # values that are not sent as they are
    "safety_tolerance": str,  # fal-11
    "size": lambda size: {"width": size[0], "height": size[1]},
}


class Fal:
    """fal's queue; the contract is told at `anykontext.adapting.Adapter`."""

    facts: Facts = FACTS

    def submit(self, order: Effective) -> Call:
        """POST to the endpoint of this model and so many images, whose dialect is in its table (fal-12)."""
        endpoint = ENDPOINTS[order.model, min(len(order.images), SEVERAL)]
        images = [_image(image) for image in order.images]
        asked = {name: getattr(order, name) for name in endpoint.names}
        fields: dict[str, Any] = {
            "prompt": order.prompt,
            **({endpoint.images: images if len(images) >= SEVERAL else images[0]} if images else {}),
            **endpoint.always,
            **{endpoint.names[name]: _written(name, value) for name, value in asked.items() if value is not None},
            **order.extra,
        }
        path = endpoint.path
        if order.webhook_url is not None:
            path += f"?fal_webhook={quote(order.webhook_url, safe='')}"
        return Call(Purpose.SUBMIT, "POST", path, headers=_wishes(order), body=json_body(fields))

    def poll(self, task: Task) -> Call:
        """GET the status_url verbatim; built without the endpoint's own part where there is none (fal-1, fal-20)."""
        if task.poll_url is not None or not task.data.get("app"):  # without either nothing can be asked
            return get(Purpose.POLL, task.poll_url or "", origin=None)
        return get(Purpose.POLL, f"{_path(task)}/status", query={"logs": "0"})

    def cancel(self, task: Task) -> Call:
        """PUT to the cancel_url: a wish (fal-7)."""
        url = task.data.get("cancel_url")
        return Call(Purpose.CANCEL, "PUT", url or f"{_path(task)}/cancel", None if url else "api")

    def check(self) -> Call:
        """POST for a storage token: free, and the only thing that needs a valid key and nothing else (fal-23)."""
        return post(Purpose.CHECK, "/storage/auth/token?storage_type=fal-cdn-v3", {}, origin="rest")

    def read(self, reply: Reply, task: Task | None) -> State:
        """What the purpose's own words say; else a refusal, in one of five shapes (fal-8)."""
        body = reply.mapping()
        good = 200 <= reply.status < 300
        state: State | None = None
        match reply.call.purpose:
            case Purpose.SUBMIT if good:
                state = _accepted(reply, body)
            case Purpose.CHECK if good:  # the token itself goes nowhere
                known = isinstance(body.get("token"), str) and body["token"]
                state = Balance(None, "") if known else Refused(Kind.PROTOCOL_ERROR, "a reply without a token")
            case Purpose.POLL if task is not None:
                state = _status(body, task, good=good)
            case Purpose.FETCH if task is not None:
                state = _result(reply, body, task, good=good)
            case Purpose.CANCEL if task is not None:
                state = _cancelled(body, task, good=good)
        return refused(reply, body) if state is None else state


def _image(image: InputImage) -> Base64 | str | None:
    """A URL, or a data URI (fal-21)."""
    return image.url if image.data is None else Base64(image.data, f"data:{image.media_type};base64,")


def _written(name: str, value: Any) -> Any:
    return WRITTEN[name](value) if name in WRITTEN else value


def _wishes(order: Effective) -> dict[str, str]:
    """Headers that keep fal from doing more than was asked (fal-14), and from starting too late (fal-15)."""
    headers = {"x-app-fal-disable-fallback": "true"}
    if order.start_within_s is not None:
        headers["X-Fal-Request-Timeout"] = str(int(max(order.start_within_s, START_MIN_S)))
    if order.fails_fast:
        headers["X-Fal-No-Retry"] = "1"
    return headers


def _app(path: str) -> str:
    """The owner and alias of an endpoint: what the paths of its tasks begin with (fal-1)."""
    parts = path.partition("?")[0].strip("/").split("/")
    return "/".join(parts[: 3 if parts[0] in NAMESPACES else 2])


def _path(task: Task) -> str:
    app = quote(task.data.get("app", "").strip("/"), safe="/")
    return f"/{app}/requests/{quote(task.id, safe='')}"


def _accepted(reply: Reply, body: Mapping[str, Any]) -> State:
    name, status = _text(body, "request_id"), _text(body, "status") or "IN_QUEUE"
    if name is None:
        return Refused(Kind.PROTOCOL_ERROR, "a submit was answered without a request_id")
    urls = {key: url for key in ("response_url", "cancel_url") if (url := _link(body, key)) is not None}
    task = Task(name, _link(body, "status_url"), {"app": _app(reply.call.path), **urls})  # fal-20
    if status == "COMPLETED":
        return _fetch(task, body)
    return Running(task, status, known=status in IN_FLIGHT, queue_position=_position(body))


def _status(body: Mapping[str, Any], task: Task, *, good: bool) -> State | None:
    """The word counts, whether it came with 200 or 202 (fal-2)."""
    status = _text(body, "status")
    if status == "COMPLETED":
        return _fetch(task, body)
    if status == "NOT_FOUND":
        return Refused(Kind.JOB_NOT_FOUND, "fal does not know the task (any more)", shape="status")  # fal-6
    if status is None or not (good or status in IN_FLIGHT):
        return None
    return Running(task, status, known=status in IN_FLIGHT, queue_position=_position(body))


def _fetch(task: Task, body: Mapping[str, Any]) -> Fetch:
    """COMPLETED says that there is something to fetch, and no more (fal-3)."""
    url = task.data.get("response_url") or _link(body, "response_url")
    return Fetch(get(Purpose.FETCH, url or _path(task), origin=None if url else "api"), task)


def _result(reply: Reply, body: Mapping[str, Any], task: Task, *, good: bool) -> State | None:
    if body.get("detail") == TOO_EARLY:  # fal-5
        return Running(task, "IN_PROGRESS")
    if good and (done := _succeeded(reply, body, task)) is not None:
        return done
    if body.get("detail") == UNKNOWN_TASK or body.get("status") == "NOT_FOUND":  # fal-6
        return Refused(Kind.JOB_NOT_FOUND, "fal does not know the task, or does not keep its result any more", "detail")
    if (end := failed(reply, body, units(reply))) is not None:
        return end
    if reply.status == 202:  # fal-5
        return Running(task, "IN_PROGRESS")
    return Refused(Kind.PROTOCOL_ERROR, "a result without an image", shape="result") if good else None


def _succeeded(reply: Reply, body: Mapping[str, Any], task: Task) -> Succeeded | None:
    """The images that were not flagged; None where there is neither an image nor a flag."""
    outputs, flagged = [], []
    images, flags = _list(body, "images"), _list(body, FLAGGED)
    for image, flag in zip_longest(images, flags[: len(images) or 1]):  # fal-10
        if flag is True:
            flagged.append(FLAGGED)
        elif (output := _output(image)) is not None:
            outputs.append(output)
    if not outputs and not flagged:
        return None
    seed = body.get("seed")  # fal-26
    return Succeeded(
        outputs=tuple(outputs),
        task=task,
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 else None,
        prompt=_text(body, "prompt"),
        units=units(reply),
        flagged=tuple(flagged),
        raw=body,
    )


def _output(image: object) -> Output | None:
    """The link, or the text of a data URI (fal-13); nothing else of an image is sure to be there."""
    url = _text(image, "url") if isinstance(image, Mapping) else None
    if url is None or url[:5].lower() != "data:":
        return Output(url) if url and url.startswith(("https://", "http://")) else None
    head, _, text = url.partition(",")
    return Output(base64=text) if text and head.lower().endswith(";base64") else None


def _cancelled(body: Mapping[str, Any], task: Task, *, good: bool) -> State | None:
    """Three dialects (fal-7): a status word, `success`, or just a 2xx."""
    if body.get("status") == "NOT_FOUND":
        return Refused(Kind.JOB_NOT_FOUND, "fal does not know the task (any more)", shape="status")
    if body.get("status") == "ALREADY_COMPLETED":
        return Refused(Kind.REQUEST_REJECTED, "the task had ended before it could be cancelled", shape="status")
    if good and body.get("success") is False:
        return Refused(Kind.REQUEST_REJECTED, "fal says that the task was not cancelled", shape="success")
    return Cancelling(task) if good else None


def units(reply: Reply) -> Decimal | None:
    """The billed units, in a header of the result; missing is unknown, and not nothing (fal-16)."""
    told = reply.headers.get("x-fal-billable-units", "").strip()
    return Decimal(told) if UNITS.fullmatch(told) else None


def _text(body: Mapping[str, Any], name: str) -> str | None:
    found = body.get(name)
    return found if isinstance(found, str) and found else None


def _link(body: Mapping[str, Any], name: str) -> str | None:
    """A URL that can be asked; another text is as good as none, since the path can be built (fal-20)."""
    found = _text(body, name)
    return found if found and found.startswith(("https://", "http://")) and len(found) <= LONGEST_URL else None


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    found = body.get(name)
    return found if isinstance(found, list) else []


def _position(body: Mapping[str, Any]) -> int | None:
    found = body.get("queue_position")
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None
