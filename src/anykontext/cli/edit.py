"""`edit` and `generate`."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from anykontext.cli.options import (
    call_of,
    check_sandbox_options,
    config_option,
    edit_words,
    force_option,
    json_option,
    out_option,
    request_options,
    said_options,
    sandbox_options,
    say_of,
)


@click.command()
@click.argument("words", nargs=-1, metavar="IMAGE... PROMPT")
@out_option
@force_option
@request_options
@config_option
@sandbox_options
@json_option
@said_options
def edit(words: Sequence[str], **given: Any) -> None:
    """Edit images by words.

    IMAGE is a file, a URL, or - for standard input; the PROMPT comes last, in quotes. The path of what was made is
    printed; nothing is overwritten without --force.

    \b
    anykontext edit photo.jpg "make the car matte black" -o black.jpg
    anykontext edit photo.jpg "make it blue" --sandbox
    """  # noqa: D301 - click reads the backspace
    check_sandbox_options(given)
    images, prompt = edit_words(words)
    _make(images, prompt, given)


@click.command()
@click.argument("prompt", nargs=-1)
@out_option
@force_option
@request_options
@config_option
@sandbox_options
@json_option
@said_options
def generate(prompt: Sequence[str], **given: Any) -> None:
    """Make images from words alone.

    \b
    anykontext generate "a red kite over the sea" --aspect-ratio 16:9 -o kite.png
    """  # noqa: D301 - click reads the backspace
    from anykontext.model.errors import InvalidRequest

    check_sandbox_options(given)
    if not prompt:
        raise InvalidRequest("the PROMPT is missing: the words that say what to show")
    if len(prompt) > 1:
        raise InvalidRequest(f"the PROMPT is one word for the shell; put it in quotes: {' '.join(prompt)!r}")
    _make([], prompt[0], given)


def _make(images: Sequence[str], prompt: str, given: dict[str, Any]) -> None:
    from anykontext.cli.make import Work
    from anykontext.cli.target import Target
    from anykontext.io.inputs import load
    from anykontext.model.request import ImageRequest

    fields, call = call_of(given)
    model = fields.get("model", ImageRequest.model_fields["model"].default)
    target = Target.of(given["out"], images[0] if images else "image", model, force=given["force"])
    if "output_format" not in fields and target.output_format:
        fields["output_format"] = target.output_format
    request = ImageRequest(prompt, tuple(map(image_of, images)), **fields)
    names = target.check(request.num_images, request.output_format)
    for image in request.images:
        if image.form != "url":
            load(image)  # what is wrong with a file is told before what is wrong with the configuration
    work = Work(
        given, target, names, say_of(given), lambda client, on_event: client.run(request, on_event=on_event, **call)
    )
    work.do()


def image_of(word: str) -> str | bytes:
    """The image that a word names: `-` is standard input.

    Raises:
        InvalidRequest: There is nothing on it.
    """
    from anykontext.io.inputs import MAX_BYTES
    from anykontext.model.errors import InvalidRequest

    if word != "-":
        return word
    if sys.stdin is None or sys.stdin.isatty():
        raise InvalidRequest(
            "- reads an image from standard input: redirect one, as in `anykontext edit - … < photo.jpg`"
        )
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if not data:
        raise InvalidRequest("there is no image on standard input (0 bytes), or it was given twice")
    return data
