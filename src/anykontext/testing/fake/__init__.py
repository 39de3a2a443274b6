"""A provider that is none: no sockets, no keys, real pictures at once, and every error of the library on demand."""

from anykontext.testing.fake.install import faking
from anykontext.testing.fake.service import Fake, FakeRequest

__all__ = ["Fake", "FakeRequest", "faking"]
