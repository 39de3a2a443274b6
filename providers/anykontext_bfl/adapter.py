"""Translation between the canonical words and BFL's: pure functions, no key, no clock."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

from anykontext.adapting import (
    Balance,
    Base64,
    Call,
    Effective,
    Facts,
    Failed,
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
    post,
)
from anykontext_bfl.facts import FACTS

IN_FLIGHT = frozenset({"Pending", "Reasoning", "Generating"})  # bfl-5
MODERATED = {"Request Moderated": "input", "Content Moderated": "output"}  # bfl-9
NOT_FOUND = "Task not found"

# bfl-14: 401 was never seen, and would mean the same. bfl-10: 402 may be back-pressure; `check` tells.
KIND_OF_STATUS = {
    401: Kind.AUTHENTICATION_FAILED,
    402: Kind.OUT_OF_CREDIT,
    403: Kind.AUTHENTICATION_FAILED,
    429: Kind.RATE_LIMITED,
}
MALFORMED_KEY = "Invalid API key format"
USD_PER_CREDIT = Decimal("0.01")
MOST_CREDITS = 1e12


class Bfl:
    """Black Forest Labs; the contract is told at `anykontext.adapting.Adapter`."""

    facts: Facts = FACTS

    def submit(self, order: Effective) -> Call:
        """POST /v1/<model>, with each image as raw base64 (bfl-19)."""
        fields: dict[str, Any] = {"prompt": order.prompt}
        for index, image in enumerate(order.images):
            fields[f"input_image_{index + 1}" if index else "input_image"] = _image(image)
        width, height = order.size or (None, None)
        options = {
            "aspect_ratio": order.aspect_ratio,
            "width": width,
            "height": height,
            "seed": order.seed,
            "output_format": order.output_format,
            "safety_tolerance": order.safety_tolerance,
            "prompt_upsampling": order.prompt_upsampling,
            "webhook_url": order.webhook_url,
        }
        fields |= {name: value for name, value in options.items() if value is not None} | dict(order.extra)
        return post(Purpose.SUBMIT, f"/v1/{order.facts.wire_name}", fields)

    def poll(self, task: Task) -> Call:
        """GET the polling_url, verbatim (bfl-1)."""
        if task.poll_url is None:  # bfl-2: only the global host is left, and may not know the task
            return get(Purpose.POLL, "/v1/get_result", query={"id": task.id})
        return get(Purpose.POLL, task.poll_url, origin=None)

    def check(self) -> Call:
        """GET /v1/credits (bfl-22)."""
        return get(Purpose.CHECK, "/v1/credits")

    def read(self, reply: Reply, task: Task | None) -> State:
        """The body first, then the HTTP status (bfl-7)."""
        body = reply.mapping()
        if reply.call.purpose is Purpose.CHECK and reply.status == 200 and "credits" in body:
            credit = _decimal(body["credits"])
            return Balance(credit, "credits", None if credit is None else credit * USD_PER_CREDIT)
        if reply.call.purpose is Purpose.SUBMIT and 200 <= reply.status < 300:
            return _accepted(body)
        if reply.call.purpose is Purpose.POLL and task is not None and isinstance(body.get("status"), str):
            return _status(body, task)
        return _refused(reply, body)


def _image(image: InputImage) -> Base64 | str | None:
    return image.url if image.data is None else Base64(image.data)


def _accepted(body: Mapping[str, Any]) -> State:
    name, url = body.get("id"), body.get("polling_url")
    if not isinstance(name, str) or not name:
        return Refused(Kind.PROTOCOL_ERROR, "a submit was answered without a task id")
    if isinstance(url, str) and url:
        return Running(Task(name, url), "Pending")
    if "webhook_url" in body:  # bfl-2
        return Running(Task(name), str(body.get("status") or "Pending"))
    return Running(Task(name), "no polling_url", known=False)


def _status(body: Mapping[str, Any], task: Task) -> State:
    status = body["status"]
    if status == "Ready":
        return _ready(body, task)
    if status in MODERATED:
        reasons = _reasons(body.get("details"))
        message = f"{status}: {', '.join(reasons)}" if reasons else status
        stage = "input" if status == "Request Moderated" else "output"
        return Failed(Kind.MODERATED, message, maybe_charged=False, stage=stage, reasons=reasons)  # type: ignore[arg-type]
    if status == "Error":  # free, bfl-9
        return Failed(Kind.GENERATION_FAILED, _error_text(body), maybe_charged=False)
    if status == NOT_FOUND:  # bfl-6
        return Refused(Kind.JOB_NOT_FOUND, "BFL does not know the task (any more)", shape="status")
    return Running(task, status, known=status in IN_FLIGHT, progress=_fraction(body.get("progress")))


def _ready(body: Mapping[str, Any], task: Task) -> State:
    result = body.get("result")
    sample = result.get("sample") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(sample, str) or not sample:
        return Refused(Kind.PROTOCOL_ERROR, "Ready without a link to the image", shape="status")
    credit = _decimal(body.get("cost"))
    if credit is not None and credit < 0:
        credit = None
    seed, prompt = result.get("seed"), result.get("prompt")
    return Succeeded(
        outputs=(Output(sample, expires_at=_expiry(sample)),),
        task=task,
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 else None,
        prompt=prompt if isinstance(prompt, str) else None,
        cost_usd=None if credit is None else round(credit, 4) * USD_PER_CREDIT,  # bfl-8
        raw=body,
    )


def _refused(reply: Reply, body: Mapping[str, Any]) -> Refused:
    detail = body.get("detail")
    message = _detail_text(detail)
    if not detail or not message:  # `message` alone is how gateways in between speak, whose 429 is a refusal too
        message = _detail_text(body.get("message"))
        if reply.status == 429 and message:
            return Refused(Kind.RATE_LIMITED, message, shape="message")
        return Refused(Kind.PROTOCOL_ERROR, message)
    if reply.status >= 500:
        return Refused(Kind.UNAVAILABLE, message, shape="detail" if isinstance(detail, str) else "")
    kind = KIND_OF_STATUS.get(reply.status, Kind.REQUEST_REJECTED)
    if message == MALFORMED_KEY:  # bfl-14
        kind = Kind.AUTHENTICATION_FAILED
    return Refused(kind if reply.status >= 400 else Kind.PROTOCOL_ERROR, message, shape="detail")


def _detail_text(detail: object) -> str:
    """The three forms of `detail`: text, list of findings, mapping. The `input` of a finding is left out (bfl-12)."""
    if detail is None:
        return ""
    if isinstance(detail, str):
        return detail
    if isinstance(detail, list):
        return "; ".join(_finding(one) for one in detail)
    if isinstance(detail, dict):
        return _words(detail.get("msg") or detail.get("message") or ", ".join(sorted(detail)))
    return _words(detail)


def _finding(one: object) -> str:
    if not isinstance(one, dict):
        return _words(one)
    place, said = one.get("loc"), _words(one.get("msg"))
    where = ".".join(_words(part) for part in place if part != "body") if isinstance(place, list) else ""
    return f"{where}: {said}" if where else said


def _words(value: object) -> str:
    """A text as it is, a number in digits; of anything else its type, since it may be deeper than Python prints."""
    return str(value) if isinstance(value, str | int | float) else type(value).__name__


def _reasons(details: object) -> tuple[str, ...]:
    """Moderation reasons: a list or a text below a key with a space, a bare text, or nothing (bfl-9)."""
    if isinstance(details, dict):
        details = details.get("Moderation Reasons")
    if isinstance(details, str) and details:
        return (details,)
    return tuple(map(_words, details)) if isinstance(details, list) else ()


def _error_text(body: Mapping[str, Any]) -> str:
    """What went wrong: in details.error, in older replies in result.error or error."""
    for place in (body.get("details"), body.get("result"), body):
        found = place.get("error") if isinstance(place, Mapping) else place
        if isinstance(found, str) and found:
            return found
    return "the task failed without a reason"


def _expiry(url: str) -> datetime | None:
    """When a signed link ends: its `se` (bfl-13)."""
    try:
        (text,) = parse_qs(urlsplit(url).query).get("se", [""])
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _fraction(value: object) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    return float(value) if known else None  # type: ignore[arg-type]  # a number, as was checked


def _decimal(value: object) -> Decimal | None:
    """A number of credits; anything that cannot be one is unknown."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST_CREDITS
    return Decimal(str(value)) if known else None
