"""The endpoints: their fields, prices and limits (bfl sheet §3, §7, §9)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["str", "int", "float", "bool", "format", "url", "ratio"]

REQUIRED = object()


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request body."""

    kind: Kind
    default: Any = None
    nullable: bool = False
    ge: int | None = None
    le: int | None = None
    multiple_of: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """One endpoint."""

    name: str
    fields: Mapping[str, Field]
    credits: float
    """The price of a picture; a credit is USD 0.01."""
    most_active: int | None = None
    """How many tasks of it may be active, if it has a limit of its own."""


def _optional(kind: Kind) -> Field:
    return Field(kind, nullable=True)


WEBHOOK = {"webhook_url": _optional("url"), "webhook_secret": _optional("str")}
SAFETY = Field("int", 2, ge=0, le=6)
KONTEXT = {
    "prompt": Field("str", REQUIRED),
    "input_image": _optional("str"),
    "input_image_2": _optional("str"),
    "input_image_3": _optional("str"),
    "input_image_4": _optional("str"),
    "seed": _optional("int"),
    "aspect_ratio": _optional("ratio"),
    "output_format": Field("format", "png", nullable=True),  # jpeg at the others: bfl sheet §3.1
    **WEBHOOK,
    "prompt_upsampling": Field("bool", default=False),
    "safety_tolerance": SAFETY,
}
PRO = {
    "prompt": Field("str", "", nullable=True),
    "image_prompt": _optional("str"),
    "width": Field("int", 1024, ge=256, le=1440, multiple_of=32),
    "height": Field("int", 768, ge=256, le=1440, multiple_of=32),
    "prompt_upsampling": Field("bool", default=False),
    "seed": _optional("int"),
    "safety_tolerance": SAFETY,
    "output_format": Field("format", "jpeg", nullable=True),
    **WEBHOOK,
}
ULTRA = {
    "prompt": Field("str", "", nullable=True),
    "prompt_upsampling": Field("bool", default=False),
    "seed": _optional("int"),
    "aspect_ratio": Field("ratio", "16:9"),
    "safety_tolerance": SAFETY,
    "output_format": Field("format", "jpeg", nullable=True),
    "raw": Field("bool", default=False),
    "image_prompt": _optional("str"),
    "image_prompt_strength": Field("float", 0.1, ge=0, le=1),
    **WEBHOOK,
}
MODELS = {
    model.name: model
    for model in (
        Model("flux-kontext-pro", KONTEXT, 4.0),
        Model("flux-kontext-max", KONTEXT, 8.0, most_active=6),  # bfl sheet §7, limits
        Model("flux-pro-1.1", PRO, 4.0),
        Model("flux-pro-1.1-ultra", ULTRA, 6.0),
    )
}
