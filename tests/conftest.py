"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# A loaded machine is slow, which says nothing about the code: timings are benchmarks, not tests.
settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")
