"""What is known about Echo, as data. Quirk ids and their evidence are told in the README."""

from anykontext.adapting import Choices, Facts, InputLimits, Known, ModeFacts, ModelFacts, Numbers, Rejection, Spec

QUIRKS = {
    "echo-1": "A submit is answered with the name of a task, which is asked for below the same path.",
    "echo-2": "queued and drawing are both on the way, and new words may come.",
    "echo-3": "refused is free, and its stage says what was refused: input or output.",
    "echo-4": "broken is free.",
    "echo-5": "A code in words tells what is wrong: no_credit and bad_key are both 403.",
    "echo-6": "The cost comes with done, in US cents.",
    "echo-7": "safety goes from 0 to 4.",
    "echo-8": "The image is bare base64, one for each task; it cannot be a URL.",
    "echo-9": "The link to a picture ends after an hour with 410; each poll gives a new one.",
    "echo-10": "503 is documented as not accepted; 500 is not.",
    "echo-11": "Seeds are unsigned 32-bit numbers; the seed that was used comes with done.",
}


OPTIONS: dict[str, Spec] = {
    "output_format": Choices(("png", "jpeg"), "Echo's guide, section 'Fields' [INVENTED]"),
    "safety_tolerance": Numbers(0, 4, "echo-7"),
    "seed": Numbers(0, 2**32 - 1, "echo-11", wraps=True),
}

FACTS = Facts(
    name="echo",
    title="Echo",
    origins={"api": "https://api.echo.example"},
    trusted=("echo.example",),
    delivery=("images.echo.example",),
    auth=("X-Echo-Key", "{key}"),
    keys=(("ECHO_API_KEY",),),
    models={
        "flux-kontext-pro": ModelFacts(
            "kontext-pro",
            {"edit": ModeFacts(OPTIONS, max_images=1), "generate": ModeFacts(OPTIONS)},
            "Echo's guide, section 'Models' [INVENTED]",
            passthrough={"format": "output_format", "safety": "safety_tolerance", "seed": "seed"},
        ),
    },
    inputs=InputLimits(
        forms=("bytes",),
        media_types=("image/jpeg", "image/png"),
        max_bytes=10_000_000,
        max_pixels=16_000_000,
        evidence="echo-8",
    ),
    poll_interval_s=1.0,
    rejections=(Rejection(503, "error", "echo-10"),),
    reserved_options={"image": "images", "model": "model", "prompt": "prompt"},
    statuses={
        "queued": Known("It waits.", "echo-2"),
        "drawing": Known("It is being made.", "echo-2"),
        "done": Known("It is made, and paid.", "echo-6"),
        "refused": Known("The prompt, the image or the result was refused.", "echo-3"),
        "broken": Known("It could not be made.", "echo-4"),
    },
    evidence={
        "auth": "echo-5",
        "delivery": "echo-9",
        "poll_interval_s": "Echo's guide, section 'Tasks' [INVENTED]",
    },
    quirks=QUIRKS,
)
