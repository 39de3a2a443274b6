"""The end of a live run: what was found, and what it cost."""

from collections.abc import Iterator

import pytest

from anykontext.testing.live import Live

RUN = pytest.StashKey[Live]()


@pytest.fixture(scope="module")
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with pytest.MonkeyPatch.context() as patch, request.module.LIVE as found:
        patch.setenv("ANYKONTEXT_HOME", str(tmp_path_factory.mktemp("home")))
        request.config.stash[RUN] = found
        yield found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = terminalreporter.config.stash.get(RUN, None)
    if found is not None:
        terminalreporter.section("anykontext live")
        for line in found.told():
            terminalreporter.write_line(line)
