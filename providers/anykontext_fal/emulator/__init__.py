"""A stand-in for fal's queue, run, storage and media hosts, true to the fal sheet (cited as "fal sheet §5")."""

from anykontext_fal.emulator.service import Emulator

__all__ = ["Emulator"]
