"""The build of the installed torch, read without importing it."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

from accel.record import Record


class TorchBuild(Record):
    """One build of torch.

    Attributes:
        version: such as ``"2.13.0+cpu"``.
        cuda: its CUDA release, ``""`` for none.
        hip: its HIP (ROCm) release, ``""`` for none.
        xpu: its oneAPI release, ``""`` for none.
    """

    version: str
    cuda: str
    hip: str
    xpu: str = ""


def torch_build() -> TorchBuild | None:
    """Return the build of the installed torch, ``None`` if there is none. Imports nothing."""
    found = getattr(sys.modules.get("torch"), "version", None)
    if found is not None:
        kinds = (str(getattr(found, kind, None) or "") for kind in ("cuda", "hip", "xpu"))
        return TorchBuild(str(found.__version__), *kinds)
    spec = find_spec("torch")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder) / "version.py"
        if file.is_file():
            return parse_version(file.read_text(encoding="utf-8"))
    return None


def parse_version(text: str) -> TorchBuild:
    """Read the text of ``torch/version.py``; a missing field is ``""``."""
    return TorchBuild(*(_assigned(text, name) for name in ("__version__", "cuda", "hip", "xpu")))


def _assigned(text: str, name: str) -> str:
    match = re.search(rf"^{name}\b[^=\n]*= *['\"]([^'\"]*)['\"]", text, re.MULTILINE)
    return match[1] if match else ""
