"""The configuration: `anykontext.toml`, the environment, or Python values, checked before anything is sent.

`source` knows where each setting stands in a file, `fields` what a value may be, `sections` what a file may hold;
`explain` and `unknown` turn findings into sentences; `files` finds and reads the file, `keys` and `key` find API keys,
`providers` makes the engine's providers; `effective` tells what holds and where it comes from, and `template` writes a
first file. Only `files` and `keys` touch the disk. No key is in a message, repr or dump.
"""

from anykontext.config.main import Config
from anykontext.config.sections import (
    BudgetConfig,
    CandidateConfig,
    InputConfig,
    LedgerConfig,
    NetworkConfig,
    ProviderConfig,
    Route,
    TagBudget,
)

__all__ = [
    "BudgetConfig",
    "CandidateConfig",
    "Config",
    "InputConfig",
    "LedgerConfig",
    "NetworkConfig",
    "ProviderConfig",
    "Route",
    "TagBudget",
]
