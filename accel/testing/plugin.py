"""The pytest plugin: makes the suites' markers known to strict configurations."""

from __future__ import annotations
