"""A stand-in for api.bfl.ai, true to the bfl sheet (its sections are cited as "bfl sheet §5")."""

from anykontext_bfl.emulator.service import Emulator

__all__ = ["Emulator"]
