"""Translation between the canonical words and Together's: pure functions, no key, no clock."""

from collections.abc import Mapping
from typing import Any

from anykontext.adapting import (
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
    State,
    Succeeded,
    Task,
    post,
)
from anykontext_together.facts import FACTS

PATH = "/v1/images/generations"
# together-4: 403 is none of the key's business. 409 is only known as one that the vendor's SDK sends again [CODE].
KIND_OF_STATUS = {
    401: Kind.AUTHENTICATION_FAILED,
    402: Kind.OUT_OF_CREDIT,  # together-17
    409: Kind.UNAVAILABLE,
    429: Kind.RATE_LIMITED,
}
# together-5: words of the two replies that were seen.
NSFW, MODERATION, GENERATED = "nsfw", "content moderation", "generated content"


class Together:
    """Together AI; the contract is told at `anykontext.adapting.Adapter`."""

    facts: Facts = FACTS

    def submit(self, order: Effective) -> Call:
        """POST /v1/images/generations; editing is a generation with `image_url` (together-9)."""
        fields: dict[str, Any] = {"model": order.facts.wire_name, "prompt": order.prompt}
        width, height = order.size or (None, None)
        options = {
            "image_url": _image(order.images[0]) if order.images else None,
            "aspect_ratio": order.aspect_ratio,  # together-7
            "width": width,
            "height": height,
            "seed": order.seed,
            "n": order.num_images,
            "output_format": order.output_format,
            "response_format": "base64",  # together-3
        }
        fields |= {name: value for name, value in options.items() if value is not None} | dict(order.extra)
        return post(Purpose.SUBMIT, PATH, fields)

    def poll(self, task: Task) -> Call:  # noqa: ARG002 - the contract's argument
        """Nothing can be asked (together-1): a call to nowhere, which the engine refuses to send."""
        return Call(Purpose.POLL, "GET", "", origin=None)

    def read(self, reply: Reply, task: Task | None) -> State:  # noqa: ARG002 - there are no tasks
        """Images first, since they are paid for; then what the body says of an error."""
        body = reply.mapping()
        data = body.get("data")
        if 200 <= reply.status < 300 and isinstance(data, list):
            outputs = tuple(output for one in data if (output := _output(one)) is not None)
            if outputs:
                return Succeeded(outputs, raw=body)  # without a cost or a seed: together-16, together-10
        error = body.get("error")
        return _refused(reply.status, error) if isinstance(error, Mapping) else Refused(Kind.PROTOCOL_ERROR, "")


def _image(image: InputImage) -> Base64 | str | None:
    """A URL, or a data URI: undocumented, and what two other clients send (together-9)."""
    return image.url if image.data is None else Base64(image.data, f"data:{image.media_type};base64,")


def _output(one: object) -> Output | None:
    """A member of the union (together-2), told by what it holds: samples in the documentation lack the `type`."""
    if not isinstance(one, Mapping):
        return None
    text, url = one.get("b64_json"), one.get("url")
    if isinstance(text, str) and text:
        return Output(base64=text)
    return Output(url) if isinstance(url, str) and url else None


def _refused(status: int, error: Mapping[str, Any]) -> Refused | Failed:
    said = error.get("message")
    message = said if isinstance(said, str) else ""
    if status < 400:
        return Refused(Kind.PROTOCOL_ERROR, message, shape="error")
    if status >= 500:
        return Refused(Kind.UNAVAILABLE, message, shape="error")
    words = message.lower()
    if status in {400, 422} and (NSFW in words or MODERATION in words):  # together-5
        if GENERATED in words:  # it was made, and nothing says that it is not billed
            return Failed(Kind.MODERATED, message, maybe_charged=True, stage="output", reasons=(message,))
        return Refused(Kind.MODERATED, message, shape="error", reasons=(message,))
    return Refused(KIND_OF_STATUS.get(status, Kind.REQUEST_REJECTED), message, shape="error")
