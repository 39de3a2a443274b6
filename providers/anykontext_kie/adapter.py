"""Translation between the canonical words and kie.ai's: pure functions, no key, no clock."""

import re
from collections.abc import Mapping
from decimal import Decimal
from hashlib import sha256
from typing import Any

from anykontext.adapting import (
    Balance,
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
    Uploaded,
    form_body,
    get,
    post,
)
from anykontext_kie.facts import (
    ENDS_AT_POLL,
    ENDS_AT_SUBMIT,
    ENVELOPE,
    FACTS,
    GENERATING,
    KIND_OF_CODE,
    MAYBE_CHARGED,
    MODERATED_AT_SUBMIT,
    NOT_FOUND_WORDS,
    RESULT_DAYS,
    SUCCESS,
    TOLERANCE,
    TOLERANCE_WORDS,
    WORD_OF_FLAG,
)
from anykontext_kie.moderation import is_moderation, moderated
from anykontext_kie.values import decimal, later, link, moment, text, whole

SUBMIT = "/api/v1/flux/kontext/generate"
RECORD = "/api/v1/flux/kontext/record-info"
CREDIT = "/api/v1/chat/credit"
UPLOAD = "/api/file-stream-upload"
UPLOAD_PATH = "anykontext"  # a folder of the account, without slashes at its ends (kie-25)
SUFFIX = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}

CODE_OK = 200
USD_PER_CREDIT = Decimal("0.005")  # kie-19
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class Kie:
    """kie.ai, and fluxapi.ai, which speaks the same (kie-20); the contract: `anykontext.adapting.Adapter`."""

    facts: Facts = FACTS

    def submit(self, order: Effective) -> Call:
        """POST /api/v1/flux/kontext/generate; with a picture it is an edit.

        Raises:
            ValueError: A picture was not uploaded.
        """
        options = {
            "inputImage": _url_of(order.images[0]) if order.images else None,
            "aspectRatio": order.aspect_ratio,  # kie-7: an edit without one is sent none
            "outputFormat": order.output_format,
            "safetyTolerance": order.safety_tolerance,
            "promptUpsampling": order.prompt_upsampling,
            "enableTranslation": bool(order.translate_prompt),  # kie-8: always
            "watermark": order.watermark,  # kie-26
            "callBackUrl": order.webhook_url,  # kie-24
        }
        # kie-22: nothing but documented names.
        fields: dict[str, Any] = {"model": order.facts.wire_name, "prompt": order.prompt}
        fields |= {name: value for name, value in options.items() if value is not None} | dict(order.extra)
        return post(Purpose.SUBMIT, SUBMIT, fields)

    def poll(self, task: Task) -> Call:
        """GET record-info."""
        return get(Purpose.POLL, RECORD, query={"taskId": task.id})

    def check(self) -> Call:
        """GET the credit that is left (kie-19)."""
        return get(Purpose.CHECK, CREDIT)

    def upload(self, image: InputImage) -> Call:
        """POST a file to the upload host; its name is made from its bytes, since a name overwrites (kie-9, kie-25)."""
        if image.data is None:
            raise ValueError("only bytes can be uploaded")
        name = sha256(image.data).hexdigest() + SUFFIX.get(image.media_type or "", "")
        body = form_body({"uploadPath": UPLOAD_PATH, "fileName": name}, image, name)
        return Call(Purpose.UPLOAD, "POST", UPLOAD, "upload", body=body)

    def read(self, reply: Reply, task: Task | None) -> State:
        """The code in the body first, then the HTTP status (kie-1)."""
        body = reply.mapping()
        code = whole(body.get("code"))
        if code not in {None, CODE_OK} or not 200 <= reply.status < 300:
            return _turned_down(reply, body, code)
        data = body.get("data")
        match reply.call.purpose:
            case Purpose.SUBMIT:
                return _accepted(body)
            case Purpose.POLL if task is not None:
                return _record(body, data, task, known=code is not None)
            case Purpose.UPLOAD:
                return _uploaded(body, data)
            case Purpose.CHECK if (credit := decimal(data)) is not None:
                return Balance(credit, "credits", credit * USD_PER_CREDIT)
        return Refused(Kind.PROTOCOL_ERROR, _said(body))


def _url_of(image: InputImage) -> str:
    if image.url is None:
        raise ValueError("kie.ai takes URLs only: the image must be uploaded first")  # kie-9
    return image.url


def _accepted(body: Mapping[str, Any]) -> State:
    task = _task(body)
    if task is None:
        return Refused(Kind.PROTOCOL_ERROR, f"a submit was answered without a taskId: {_said(body)}")
    return Running(task, "submitted")


def _task(body: Mapping[str, Any]) -> Task | None:
    """The task that a reply names, in one of three places (kie-15)."""
    data = body.get("data")
    places = data if isinstance(data, Mapping) else {}
    for name in (places.get("taskId"), places.get("task_id"), body.get("taskId")):
        if isinstance(name, str) and text(name):
            return Task(name)
    return None


def _record(body: Mapping[str, Any], data: object, task: Task, *, known: bool) -> State:
    if data is None and known:  # kie-2
        return Refused(Kind.JOB_NOT_FOUND, "the service does not know the task (yet, or any more)", shape=ENVELOPE)
    if not isinstance(data, Mapping):
        return Refused(Kind.PROTOCOL_ERROR, _said(body))
    given = data.get("successFlag")
    flag = whole(given)  # kie-14
    if flag == SUCCESS:
        return _succeeded(body, data, task)
    if flag in MAYBE_CHARGED:  # kie-4, kie-18; an input that could not be fetched, too: kie-3
        said = text(data.get("errorMessage"))
        for words in (said, text(data.get("errorCode")), _said(body)):
            if is_moderation(words):  # kie-5
                return moderated(words, maybe_charged=MAYBE_CHARGED[flag])
        why = said or f"the task failed without a reason ({WORD_OF_FLAG[flag]})"
        return Failed(Kind.GENERATION_FAILED, why, maybe_charged=MAYBE_CHARGED[flag])
    if flag is None and not (isinstance(given, str) and given):
        return Refused(Kind.PROTOCOL_ERROR, "a record without a successFlag", shape=ENVELOPE)
    runs = flag == GENERATING
    return Running(task, WORD_OF_FLAG[GENERATING] if runs else f"successFlag {given}", known=runs)


def _succeeded(body: Mapping[str, Any], data: Mapping[str, Any], task: Task) -> State:
    """The one link to the result; never originImageUrl, whatever it shows (kie-12). Other keys are let be (kie-16)."""
    response = data.get("response")
    url = link(response.get("resultImageUrl")) if isinstance(response, Mapping) else None
    if url is None:
        return Refused(Kind.PROTOCOL_ERROR, "successFlag 1 without a link to the image", shape=ENVELOPE)
    return Succeeded((Output(url, expires_at=later(moment(data.get("completeTime")), RESULT_DAYS)),), task, raw=body)


def _uploaded(body: Mapping[str, Any], data: object) -> State:
    url = link(data.get("downloadUrl")) if isinstance(data, Mapping) else None  # kie-25
    if url is None or body.get("success") is False:
        return Refused(Kind.PROTOCOL_ERROR, f"an upload was answered without a downloadUrl: {_said(body)}")
    return Uploaded(url)


def _turned_down(reply: Reply, body: Mapping[str, Any], code: int | None) -> Refused | Failed | Running:
    """A code other than 200; what has none, or no text with it, did not come from the service itself."""
    said = _said(body)
    purpose, differs = reply.call.purpose, None if code == reply.status else code
    if purpose is Purpose.SUBMIT and (task := _task(body)) is not None:  # a task beside an error: the poll tells
        return Running(task, f"code {reply.status if code in {None, CODE_OK} else code}", known=False)
    if code is None or code == CODE_OK or not {"msg", "message"} & body.keys():
        return Refused(Kind.PROTOCOL_ERROR, said)
    ends = {Purpose.SUBMIT: ENDS_AT_SUBMIT, Purpose.POLL: ENDS_AT_POLL}.get(purpose, {})
    if code in ends:  # kie-4, kie-18
        if is_moderation(said):  # kie-5
            return moderated(said, maybe_charged=True)
        return Failed(ends[code], said or f"the task failed without a reason (code {code})", maybe_charged=True)
    kind, shape, words = _kind(code), ENVELOPE, said.lower()
    if purpose is Purpose.SUBMIT and code in MODERATED_AT_SUBMIT and is_moderation(said):  # kie-5
        return Refused(Kind.MODERATED, said, shape, stage="input", reasons=(said,), code=differs)
    if purpose is Purpose.SUBMIT and code == 500 and all(word in words for word in TOLERANCE_WORDS):  # kie-6
        kind, shape = Kind.REQUEST_REJECTED, TOLERANCE
    if purpose is Purpose.POLL and (code == 404 or (code == 422 and any(word in words for word in NOT_FOUND_WORDS))):
        kind = Kind.JOB_NOT_FOUND  # kie-2
    wait_s = _retry_after(reply) if kind in {Kind.RATE_LIMITED, Kind.UNAVAILABLE} else None
    return Refused(kind, said, shape, retry_after_s=wait_s, code=differs)


def _kind(code: int) -> Kind:
    if code in KIND_OF_CODE:
        return KIND_OF_CODE[code]
    if 400 <= code < 600:
        return Kind.REQUEST_REJECTED if code < 500 else Kind.UNAVAILABLE
    return Kind.PROTOCOL_ERROR


def _retry_after(reply: Reply) -> float | None:
    """The header as plain seconds: the HTTP status may be 200, where the engine does not look (kie-1)."""
    asked = reply.headers.get("retry-after", "").strip()
    return float(asked) if _SECONDS.fullmatch(asked) else None


def _said(body: Mapping[str, Any]) -> str:
    return text(body.get("msg")) or text(body.get("message"))  # kie-15
