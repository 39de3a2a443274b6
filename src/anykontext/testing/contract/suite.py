"""The whole contract as one class."""

from anykontext.adapting import Cancels, Checks, Uploads
from anykontext.sandbox import FAULTS
from anykontext.testing.contract.arriving import ArrivingContract
from anykontext.testing.contract.cassettes import CassettesContract
from anykontext.testing.contract.facts import FactsContract
from anykontext.testing.contract.faults import FaultsContract
from anykontext.testing.contract.handles import HandlesContract
from anykontext.testing.contract.money import MoneyContract
from anykontext.testing.contract.orders import modes
from anykontext.testing.contract.reading import ReadingContract
from anykontext.testing.contract.submitting import SubmittingContract
from anykontext.testing.contract.written import WrittenContract


class AdapterContract(
    FaultsContract,
    ArrivingContract,
    CassettesContract,
    HandlesContract,
    MoneyContract,
    ReadingContract,
    SubmittingContract,
    WrittenContract,
    FactsContract,
):
    """What every adapter keeps. Subclass it in a test module, and name the adapter; the package tells how."""

    @classmethod
    def capabilities(cls) -> str:
        """What is claimed, line by line: what the adapter can do, and which tests it need not pass, and why."""
        one, facts = cls(), cls.adapter.facts
        can = {
            "tasks that can be resumed": one.has_tasks,
            "cancel": isinstance(cls.adapter, Cancels),
            "check a key": isinstance(cls.adapter, Checks),
            "upload": isinstance(cls.adapter, Uploads) or facts.uploads is not None,
            "webhook": facts.webhooks,
            "an emulator": cls.emulator is not None,
            "cassettes": cls.cassettes is not None,
        }
        options = sorted({option for _, _, offered in modes(facts) for option in offered.options})
        rejections = [f"{one.status} {one.shape} ({one.evidence})" for one in facts.rejections]
        lines = [
            f"{facts.name}: {facts.title}",
            f"models: {', '.join(facts.models)}",
            f"options: {', '.join(options)}",
            f"images per task: {facts.images_per_task}",
            f"rejections: {', '.join(rejections) or 'none'}",
            *(f"{name}: {'yes' if has else 'no'}" for name, has in can.items()),
            f"documented replies: {len(cls.documented)}",
            *(f"fault {name}: {end.because}" for name, end in cls.ends.items() if name in FAULTS),
            *(f"without fault {name}: {why}" for name, why in cls.without_faults.items()),
            *(f"inverted {name}: {why}" for name, why in cls.inverted.items()),
            *(f"reworded {name}: {why}" for name, why in cls.reworded.items()),
            *(f"header {name}: {why}" for name, why in cls.headers.items()),
        ]
        return "\n".join(lines)
