"""The same scenes at the real service and at its emulator, for whoever has a key: what differs is printed.

    LIVE = Live(Settings.from_env(os.environ), [Subject("echo")], Path("cassettes"))

    @pytest.mark.parametrize(("provider", "scene"), LIVE.cases())
    def test_live(provider, scene):
        report = played(LIVE, provider, scene)
        print(*report.told(), sep=", ")
        if report.error:
            raise report.error

Nothing is sent unless `ANYKONTEXT_LIVE=1` and `ANYKONTEXT_LIVE_ECHO_KEY` are set, and nothing is begun that might pass
`ANYKONTEXT_LIVE_MAX_USD` (0.50 for the whole run). `tests/live/README.md` tells more.
"""

from anykontext.testing.live.purse import OverCap, Purse
from anykontext.testing.live.run import Live, Report, played
from anykontext.testing.live.scenes import SCENES, Cannot, Subject, Unexpected
from anykontext.testing.live.settings import Settings
from anykontext.testing.live.tape import Leaked

__all__ = [
    "SCENES",
    "Cannot",
    "Leaked",
    "Live",
    "OverCap",
    "Purse",
    "Report",
    "Settings",
    "Subject",
    "Unexpected",
    "played",
]
