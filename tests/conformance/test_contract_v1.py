"""What was written for version 1 of the contract keeps passing, unchanged."""

import hashlib
from pathlib import Path

import contract_v1

from accel.testing import AcceleratorConformance

FROZEN = "e5fc236ddef7d1329e97251ccc9e6f80b17362cdcab4df7d09bf99720bf8da71"


class TestVersionOne(AcceleratorConformance):
    accelerator = contract_v1.VersionOne


def test_it_is_frozen():
    found = hashlib.sha256(Path(contract_v1.__file__).read_bytes()).hexdigest()
    assert found == FROZEN, "contract_v1.py is never changed; mend accel, or add contract_v2.py."
