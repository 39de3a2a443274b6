"""The pytest plugin: `anykontext_fake` and `anykontext_sandbox`, for the tests of code that uses anykontext.

Every pytest run on a machine with anykontext imports this module, so it loads nothing before a fixture is asked for.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from anykontext.testing.fake import Fake
    from anykontext.testing.sandboxed import TestSandbox

MARKER = (
    "anykontext(providers=NAMES, seconds=0.0, config=TOML): for the fixtures anykontext_fake and anykontext_sandbox: "
    "the providers to have, how long a task takes in the sandbox, and further settings of the configuration"
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, for --strict-markers."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def anykontext_fake(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Fake]":
    """A fake provider without sockets, reached by everything of anykontext in this process."""
    from anykontext.testing.fake import faking

    asked = _asked(request, "providers", "config")
    with faking(tmp_path_factory.mktemp("anykontext"), **asked) as fake:
        yield fake


@pytest.fixture
def anykontext_sandbox(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[TestSandbox]":
    """The emulators on free ports of this machine, reached by every client with the default configuration."""
    from anykontext.sandbox import MissingExtra
    from anykontext.testing.sandboxed import quick, sandboxed

    asked = _asked(request, "providers", "seconds", "config")
    more = asked.pop("config", "")
    try:
        sandbox = quick(**asked)
    except (MissingExtra, ValueError) as error:
        pytest.fail(f"anykontext_sandbox: {error}", pytrace=False)
    with sandbox, sandboxed(sandbox, tmp_path_factory.mktemp("anykontext"), more) as found:
        yield found


def _asked(request: pytest.FixtureRequest, *known: str) -> dict[str, Any]:
    """What the test's markers say; the nearest one counts."""
    asked: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("anykontext"))):
        asked |= marker.kwargs
        if marker.args or marker.kwargs.keys() - set(known):
            words = f"the marker anykontext takes {', '.join(known)} by name with {request.fixturename}"
            pytest.fail(words, pytrace=False)
    if not isinstance(asked.get("providers", []), list | tuple):
        pytest.fail("the marker anykontext takes providers as a list of names", pytrace=False)
    if not isinstance(asked.get("seconds", 0), int | float):
        pytest.fail("the marker anykontext takes seconds as a number", pytrace=False)
    return asked
