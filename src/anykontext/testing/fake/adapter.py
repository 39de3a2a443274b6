"""The adapter of the fake provider, whose protocol is our own words as JSON: it hosts everything."""

from dataclasses import fields
from decimal import Decimal
from typing import Any

from anykontext.adapting import (
    Adapter,
    Balance,
    Base64,
    Call,
    Choices,
    Effective,
    Facts,
    Failed,
    InputImage,
    InputLimits,
    Kind,
    ModeFacts,
    ModelFacts,
    Numbers,
    Output,
    Purpose,
    Ratios,
    Refused,
    Reply,
    Running,
    Sizes,
    Spec,
    State,
    Succeeded,
    Task,
    Toggle,
    get,
    hookimpl,
    post,
)
from anykontext.model.request import MODELS, SEED_MAX

OURS = "the fake is ours"
# What is not an option that the test's author would look for in the request.
NOT_OPTIONS = ("model", "facts", "mode", "prompt", "images", "num_images", "start_within_s", "fails_fast", "extra")


class _Anything(dict[str, str]):
    """The provider's own fields: whatever a caller sets."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return ""


OPTIONS: dict[str, Spec] = {
    "output_format": Choices(("jpeg", "png", "webp"), OURS),
    "seed": Numbers(0, SEED_MAX, OURS),
    "safety_tolerance": Numbers(0, 6, OURS),
    "guidance": Numbers(0, 100, OURS, fractions=True),
    "steps": Numbers(1, 1000, OURS),
    "prompt_upsampling": Toggle(OURS),
    "translate_prompt": Toggle(OURS),
    "watermark": Toggle(OURS),
    "aspect_ratio": Ratios((1, 100), (100, 1), OURS),
}
MODES = {
    # No size: with one in the facts, an edit without a shape would be sent one of a whole megapixel.
    "edit": ModeFacts(OPTIONS, max_images=10),
    "generate": ModeFacts({**OPTIONS, "size": Sizes(1, 8192, 1, OURS)}),
}
FACTS = Facts(
    name="fake",
    title="anykontext's fake provider",
    origins={"api": "https://fake.invalid"},
    trusted=(),
    delivery=(),
    auth=("Authorization", "Bearer {key}"),
    keys=(),
    models={name: ModelFacts(name, MODES, OURS, passthrough=_Anything()) for name in MODELS},  # type: ignore[arg-type]  # "edit" and "generate" are modes
    inputs=InputLimits(
        forms=("bytes", "url"),
        media_types=("image/jpeg", "image/png", "image/webp"),
        max_bytes=64 * 1024 * 1024,
        max_pixels=100_000_000,
        evidence=OURS,
    ),
    poll_interval_s=0.01,
    images_per_task=10,
    evidence={},
    quirks={},
)


class FakeAdapter:
    """The contract is told at `anykontext.adapting.Adapter`."""

    facts: Facts = FACTS

    def submit(self, order: Effective) -> Call:
        """Everything, in our own words."""
        names = [one.name for one in fields(order) if one.name not in NOT_OPTIONS]
        options = {name: value for name in names if (value := getattr(order, name)) is not None}
        body = {
            "model": order.model,
            "mode": order.mode,
            "prompt": order.prompt,
            "images": [_image(image) for image in order.images],
            "num_images": order.num_images,
            "options": options | dict(order.extra),
        }
        return post(Purpose.SUBMIT, "/tasks", body)

    def poll(self, task: Task) -> Call:
        """GET /tasks/ID."""
        return get(Purpose.POLL, f"/tasks/{task.id}")

    def cancel(self, task: Task) -> Call:
        """DELETE /tasks/ID."""
        return Call(Purpose.CANCEL, "DELETE", f"/tasks/{task.id}")

    def check(self) -> Call:
        """GET /account."""
        return get(Purpose.CHECK, "/account")

    def read(self, reply: Reply, task: Task | None) -> State:  # noqa: ARG002 - every reply names its task
        """What the fake says is the state itself."""
        said = reply.mapping()
        match said.get("state"):
            case "done":
                return _succeeded(said)
            case "running":
                return Running(Task(said["id"]), "running")
            case "failed":
                kind, reasons = Kind(said["kind"]), tuple(said["reasons"])
                return Failed(kind, said["message"], said["maybe_charged"], said["stage"], reasons)
            case "account":
                return Balance(None, "USD")
        return Refused(Kind.PROTOCOL_ERROR, "not a reply of the fake")


def _image(image: InputImage) -> Base64 | dict[str, str | None]:
    return {"url": image.url} if image.data is None else Base64(image.data)


def _succeeded(said: Any) -> Succeeded:
    return Succeeded(
        outputs=tuple(Output(base64=text) for text in said["images"]),
        task=Task(said["id"]),
        seed=said["seed"],
        prompt=said["prompt"],
        cost_usd=Decimal(said["cost"]) if said["cost"] else None,
        raw={name: said[name] for name in said if name != "images"},
    )


@hookimpl
def anykontext_adapters(register: Any) -> None:
    """Register it as any plugin registers its adapters."""
    adapter: Adapter = FakeAdapter()
    register(adapter)
