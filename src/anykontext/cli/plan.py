"""`plan`: what a request would cost, where it would go, and why, without sending anything."""

from collections.abc import Sequence
from typing import Any

import click

from anykontext.cli.options import (
    call_of,
    check_sandbox_options,
    config_option,
    configured,
    json_option,
    plan_words,
    request_options,
    said_options,
    sandbox_options,
    say_of,
)


@click.command()
@click.argument("words", nargs=-1, metavar="[IMAGE...] PROMPT")
@request_options
@config_option
@sandbox_options
@json_option
@said_options
def plan(words: Sequence[str], **given: Any) -> int:
    """Show where a request would go, at what price, and why; nothing is sent and nothing is paid.

    With an IMAGE it is an edit, without one a generation. No URL is fetched, and no key is needed. Ends with 0 when
    a provider can do it, else as the request itself would: 2, with 8 where a price or a budget stands in the way, 3
    where no provider has a key, and 5 where the one that is named is drained.

    \b
    anykontext plan photo.jpg "make the car matte black" --num-images 4 --max-price 0.10
    """  # noqa: D301 - click reads the backspace
    import json

    from anykontext.cli.edit import image_of
    from anykontext.cli.failures import DONE, exit_code
    from anykontext.cli.logs import logs
    from anykontext.cli.say import printable
    from anykontext.client import Client
    from anykontext.model.request import ImageRequest

    check_sandbox_options(given)
    images, prompt = plan_words(words)
    fields, call = call_of(given)
    request = ImageRequest(prompt, tuple(map(image_of, images)), **fields)
    say = say_of(given)
    with logs(say), configured(given) as config, Client(config) as client:
        found = client.plan(request, **call)
    say.result(json.dumps(found.to_json(), default=str) if say.as_json else printable(found))
    if say.as_json:  # the table has them itself
        for note in found.notes:
            say.note(note)
        if found.error is not None:
            say.error(found.error)
    return DONE if found.error is None else exit_code(found.error)
