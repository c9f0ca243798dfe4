"""Builders that are looked up by several threads at once."""

import sys
import threading

import pytest

from accel.builders import lookup


@pytest.fixture
def hasty_threads():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_get_one_class(hasty_threads):
    for _ in range(20):
        lookup._derived.clear()
        lookup._answers.clear()
        start, found = threading.Barrier(8), []

        def ask(start=start, found=found):
            start.wait()
            found.append(lookup.find_builder("FusedAdamBuilder", None, "npu"))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert len({*found}) == 1
