import ast
import subprocess
import sys
from typing import Any

import pytest

import anykontext

# Design section 5, as far as this stage has it.
PINNED = """Client AsyncClient Config Route Job AsyncJob JobHandle Outcome ProviderCheck Adjustment Attempt ImageRequest
ImageResult ResultImage Cost edit generate
Adjusted Downloading Drift FailingOver Finished Planned Progress Retrying Submitted Submitting
AnykontextError ConfigurationError MissingKey UnknownProvider UnknownModel BrokenPlugin InvalidRequest UnsupportedOption
NoCandidate BudgetExceeded ProviderError AuthenticationFailed OutOfCredit RateLimited RequestRejected Unavailable
Moderated GenerationFailed JobNotFound ResultExpired Cancelled OutcomeUnknown DeadlineExceeded ProtocolError
AllCandidatesFailed"""


def fresh(code: str) -> Any:
    """Run code in a new interpreter and read what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ast.literal_eval(done.stdout)


def test_the_public_names_are_sorted_and_told_once() -> None:
    assert sorted(set(anykontext.__all__)) == anykontext.__all__


def test_every_pinned_name_is_there() -> None:
    assert set(PINNED.split()) - set(anykontext.__all__) == set()


@pytest.mark.parametrize("name", anykontext.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(anykontext, name).__name__ == name or name == "Event"
    assert name in dir(anykontext)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        anykontext.Clinet  # noqa: B018 - the access is the subject


def test_the_version_is_that_of_the_distribution() -> None:
    assert anykontext.__version__[0].isdigit()
    assert "__version__" in dir(anykontext)


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ["httpx", "pydantic", "PIL", "click", "rich", "orjson", "pluggy", "aiohttp", "starlette"]
    code = f"import sys, anykontext; print([one for one in {heavy!r} if one in sys.modules])"

    assert [] == fresh(code)


def test_an_adapter_loads_no_network_and_no_imaging() -> None:
    heavy = ["httpx", "PIL", "click", "asyncio", "ssl", "socket"]
    code = f"import sys, anykontext_bfl.adapter; print([one for one in {heavy!r} if one in sys.modules])"

    assert {"httpx", "PIL", "click"} & set(fresh(code)) == set()


def test_the_engine_loads_no_network_and_no_imaging() -> None:
    heavy = ["httpx", "PIL", "click", "anykontext.io", "anykontext.client", "anykontext.config"]
    code = "import sys, anykontext.engine.job, anykontext.routing.plan;"
    code += f"print([one for one in {heavy!r} if one in sys.modules])"

    assert [] == fresh(code)


def test_type_checkers_see_the_same_names_as_the_table() -> None:
    import inspect

    tree = ast.parse(inspect.getsource(anykontext))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    shown = {
        alias.asname: f"{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert anykontext._MODULE_OF == shown
