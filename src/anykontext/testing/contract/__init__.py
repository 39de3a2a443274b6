"""The contract of an adapter as tests: subclass one class, name the adapter, and inherit them.

    class TestEcho(AdapterContract):
        adapter = Echo()
        emulator = Emulator                      # None: then what needs sockets is skipped, by that name
        cassettes = Path("cassettes/echo")       # None: then nothing is replayed
        documented = (                           # replies as the provider sends them -> what must come of them
            Documented(Purpose.SUBMIT, 200, {"id": "1"}, Running, evidence="echo-1"),
            Documented(Purpose.POLL, 200, {"status": "Pending"}, Running, evidence="echo-3"),
            Documented(Purpose.SUBMIT, 402, {"error": "no money"}, (Refused, Kind.OUT_OF_CREDIT), evidence="echo-7"),
            Documented(Purpose.POLL, 200, {"status": "Error"}, (Failed, Kind.GENERATION_FAILED, False), "echo-4"),
        )

Plain pytest is enough: no conftest and no plugin. What an adapter cannot do is skipped by capability, and `pytest -rs`
lists it, each reason beginning with `capability: `; `TestEcho.capabilities()` is the text of what is claimed.

Where a fault of the emulator ends elsewhere than at most providers, `ends` says so with its reason; a fault that means
nothing there stands in `without_faults` with its reason. A value of an option must be in the body as it was asked:
`inverted` names the toggles whose sense is the other way round there, `reworded` the options with words of the
provider's own, and `headers` what the calls need besides Accept and Content-Type, each with its reason.
"""

from anykontext.testing.contract.base import Documented, End
from anykontext.testing.contract.suite import AdapterContract

__all__ = ["AdapterContract", "Documented", "End"]
