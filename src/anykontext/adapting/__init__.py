"""What the author of an adapter imports, and nothing else."""

from anykontext.adapting.adapter import Adapter, Cancels, Checks, Effective, Uploads
from anykontext.adapting.facts import (
    Choices,
    Facts,
    InputLimits,
    Known,
    ModeFacts,
    ModelFacts,
    Numbers,
    Ratios,
    Rejection,
    Sizes,
    Spec,
    Toggle,
    UploadFacts,
)
from anykontext.adapting.hookspecs import hookimpl
from anykontext.adapting.states import (
    Balance,
    Cancelling,
    Failed,
    Fetch,
    Output,
    Refused,
    Running,
    State,
    Succeeded,
    Uploaded,
)
from anykontext.adapting.wire import Base64, Body, Call, Purpose, Reply, form_body, get, json_body, post
from anykontext.model.errors import Kind
from anykontext.model.image import InputImage
from anykontext.model.job import Task

__all__ = [
    "Adapter",
    "Balance",
    "Base64",
    "Body",
    "Call",
    "Cancelling",
    "Cancels",
    "Checks",
    "Choices",
    "Effective",
    "Facts",
    "Failed",
    "Fetch",
    "InputImage",
    "InputLimits",
    "Kind",
    "Known",
    "ModeFacts",
    "ModelFacts",
    "Numbers",
    "Output",
    "Purpose",
    "Ratios",
    "Refused",
    "Rejection",
    "Reply",
    "Running",
    "Sizes",
    "Spec",
    "State",
    "Succeeded",
    "Task",
    "Toggle",
    "UploadFacts",
    "Uploaded",
    "Uploads",
    "form_body",
    "get",
    "hookimpl",
    "json_body",
    "post",
]
