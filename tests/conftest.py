"""What the whole suite shares: what makes it take less time, and changes nothing that is tested."""

import gc

import pytest

# Tests beside those of hypothesis that go through thousands of cases: what they reach is reached by others too.
THOROUGH = {
    "test_any_change_of_a_reply_is_survived",
    "test_headers_that_make_no_sense_do_no_harm",
    "test_read_makes_a_state_of_any_body_under_any_status",
}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Thousands of examples of one rule are run and not measured: measuring takes as long as running."""
    if config.pluginmanager.hasplugin("_cov"):
        for item in items:
            made = getattr(item, "obj", None)
            if getattr(made, "is_hypothesis_test", False) or getattr(made, "__name__", "") in THOROUGH:
                item.add_marker("no_cover")


def pytest_collection_finish() -> None:
    """Ten thousand collected tests stay until the end: the collections that tests ask for need not walk them."""
    gc.collect()
    gc.freeze()
