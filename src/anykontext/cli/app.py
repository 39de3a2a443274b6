"""The `anykontext` command and what belongs to it."""

import click

from anykontext.cli.check import check
from anykontext.cli.config import config
from anykontext.cli.drain import drain, undrain
from anykontext.cli.edit import edit, generate
from anykontext.cli.jobs import jobs
from anykontext.cli.plan import plan
from anykontext.cli.providers import providers
from anykontext.cli.sandbox import sandbox
from anykontext.cli.spend import spend


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="anykontext", prog_name="anykontext")
def app() -> None:
    """One request for a FLUX image, any provider that hosts the model.

    \b
    anykontext edit photo.jpg "make the car matte black" -o black.jpg
    anykontext edit photo.jpg "make it blue" --sandbox      try it: no key, nothing paid
    anykontext plan photo.jpg "make it blue"                where would it go, at what price? nothing is sent
    anykontext check                                        are the keys valid?

    Exit codes: 0 done, 2 bad request, 3 configuration or key, 4 moderated, 5 provider failed, 6 outcome unknown
    (maybe charged), 7 deadline (resumable), 8 budget, 130 interrupted, 1 a bug.
    """  # noqa: D301 - click reads the backspace


for _command in (edit, generate, plan, check, providers, sandbox, jobs, spend, drain, undrain, config):
    app.add_command(_command)
