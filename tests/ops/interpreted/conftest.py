"""Tests of Triton's kernels, each run in a process that says whether it interprets them.

Triton chooses the interpreter at its first import, and torch may have imported it before.
"""

from __future__ import annotations

import os

collect_ignore_glob = [] if "TRITON_INTERPRET" in os.environ else ["test_*.py"]
