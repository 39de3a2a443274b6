"""A stand-in for kie.ai, true to the kie sheet (its sections are cited as "kie sheet §4"; quirk ids are the README's).

No recorded reply of the Kontext endpoints was found: they rest on documentation, on the recorded envelope of their
siblings and on clients' code.
"""

from anykontext_kie.emulator.service import Emulator

__all__ = ["Emulator"]
