"""A stand-in for api.together.ai, true to the together sheet (quirk ids are the README's).

No recorded reply of Together was found: this rests on documentation and on notes of others' calls.
"""

from anykontext_together.emulator.service import Emulator

__all__ = ["Emulator"]
