"""Settings of all tests."""

from __future__ import annotations

import gc
import os
import signal

import pytest
from hypothesis import settings

# What tests share asserts too; it tells as much as a test does.
pytest.register_assert_rewrite("book_model", "gpu_world")

# A loaded machine is slow, which says nothing about the code: timings are benchmarks, not tests.
settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")

# A shell that starts this in the background has interrupts ignored, and programs under test would
# inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

DESCRIPTORS = 200
_kept = [0]


def pytest_runtest_logfinish() -> None:
    """Close what ended tests have left open.

    A store is closed with its last reference, which objects that refer to each other keep until they are
    collected: too late in thousands of tests for programs that use select(2), which takes 1,024.
    """
    if len(os.listdir("/proc/self/fd")) > _kept[0] + DESCRIPTORS:
        gc.collect()
        _kept[0] = len(os.listdir("/proc/self/fd"))
