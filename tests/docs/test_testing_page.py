"""The page on testing: its examples are a user's files, and pass as they stand."""

import re
from pathlib import Path

import pytest

import anykontext.testing.fake  # before pytester, which takes away what it imports first
import anykontext.testing.sandboxed  # noqa: F401 - the same
from anykontext.sandbox import FAULTS
from anykontext.testing.fake import Fake, FakeRequest
from anykontext.testing.sandboxed import TestSandbox

pytest_plugins = ["pytester"]
PAGE = (Path(__file__).parents[2] / "docs/testing.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.sandbox
def test_every_example_passes(pytester: pytest.Pytester) -> None:
    shop, *tests = EXAMPLES
    pytester.makepyfile(shop=shop, **{f"test_{number}": text for number, text in enumerate(tests)})

    result = pytester.runpytest_subprocess("-W", "error", "--strict-markers", "-p", "no:cacheprovider")

    result.assert_outcomes(passed=len(re.findall(r"^def test_", PAGE, re.MULTILINE)))


@pytest.mark.parametrize("fixture", [Fake, TestSandbox])
def test_everything_that_a_fixture_offers_is_on_the_page(fixture: type) -> None:
    offered = {name for name in vars(fixture) if not name.startswith("_")} - {"answer"}

    assert [] == sorted(name for name in offered if f"`.{name}" not in PAGE)


def test_the_parts_of_a_request_are_on_the_page() -> None:
    assert [] == [name for name in FakeRequest.__slots__ if f"`{name}`" not in PAGE]


def test_the_page_names_no_fault_that_there_is_not() -> None:
    named = set(re.findall(r'inject\("\w+", "([^"]+)"', PAGE))

    assert named
    assert named <= set(FAULTS)
