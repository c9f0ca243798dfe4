"""The documentation without its site: links, generated pages, navigation, figures."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import accel
from accel.builders.convention import DECLARED, name_of
from accel.targets import resolve

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def load(path: str) -> ModuleType:
    name = Path(path).stem
    spec = importlib.util.spec_from_file_location(f"loaded_{name}", ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site() -> ModuleType:
    before = [*sys.path]
    found = load("tools/docs.py")
    sys.path[:] = before
    return found


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    return load("benchmarks/readme.py")


@pytest.fixture(scope="module")
def ops(site: ModuleType) -> dict[str, str]:
    return dict(site.op_pages())


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    titles = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {re.sub(r"[ ]+", "-", title.strip()) for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        if re.match(r"https?:", link):
            continue
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_the_site_has_every_link_of_a_page(site: ModuleType) -> None:
    link = site.site_link
    assert link("index.md", "docs/gpu.md#goals") == "gpu.md#goals"
    assert link("index.md", "benchmarks/results/readme.png") == "figures/readme.png"
    assert link("coming-from/apex.md", "../why.md") == "../why.md"
    assert link("integrations/x.md", "../../CHANGELOG.md") == "../changelog.md"
    assert link("changelog.md", "docs/compatibility.md") == "compatibility.md"
    assert link("gpu.md", "https://pytorch.org") == "https://pytorch.org"
    # What is in the repository alone is named, not linked; what is nowhere is left for mkdocs.
    assert link("releasing.md", "../tools/wheel.py") is None
    assert link("releasing.md", "../tools/nothing.py") == "../tools/nothing.py"
    shown = site.for_site("releasing.md", "[`x`](../tools/wheel.py)\n```\n[a](../tools)\n```\n")
    assert shown == "`x`\n```\n[a](../tools)\n```\n"


def test_the_navigation_has_every_page_once(site: ModuleType) -> None:
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in PAGES[4:]]
    pages += ["index.md", "ops/index.md", "ops/utils.md", "someone/new.md"]
    listed = json.dumps(site.navigation(pages))
    assert {page: listed.count(f'"{page}"') for page in pages} == dict.fromkeys(pages, 1)
    guides = next(section["Guides"] for section in json.loads(listed) if "Guides" in section)
    assert "someone/new.md" in guides
    assert listed.index("ops/index.md") < listed.index("ops/utils.md")


@pytest.mark.parametrize("op", DECLARED)
def test_an_ops_page_has_its_surface_and_its_rungs(ops: dict[str, str], op: str) -> None:
    page = ops[f"ops/{op}.md"]
    target = DECLARED[op]
    assert f'get_op_builder("{name_of(target)}")' in page
    for name in resolve(target).functions:
        assert re.search(rf"^(::: .*\.|### `){name}\b", page, re.MULTILINE), name
    table = page.partition("## Rungs")[2]
    assert all(f"`{one.name}`" in table for one in accel.candidates())
    assert f"[`{op}`]({op}.md)" in ops["ops/index.md"]


def test_rungs_are_those_that_are_declared(site: ModuleType) -> None:
    def names(op: str, backend: str) -> list[str]:
        return [rung for rung, _ in site.rungs(op, backend)]

    assert names("fused_adam", "cpu") == ["prebuilt", "jit", "reference"]
    assert names("fused_adam", "cuda") == ["prebuilt", "jit", "portable", "reference"]
    assert names("fused_adam", "hpu") == ["vendor", "reference"]
    # The vendor's LAMB has another meaning, so that it is not used.
    assert names("fused_lamb", "hpu") == names("fused_adam", "mps") == ["reference"]
    assert names("multi_tensor", "cuda") == ["prebuilt", "jit", "portable", "reference"]
    assert names("adam8bit", "hpu") == names("utils", "cpu") == ["reference"]
    for op in ("adam8bit", "multi_tensor", "quantizer"):
        # Triton's kernels are not declared for it.
        assert names(op, "xpu") == ["prebuilt", "jit", "reference"]
    assert site.rungs("fused_adam", "cpu")[1][1].startswith("`csrc/cpu/optimizers/adam.cpp`")


def test_an_ops_page_has_what_was_measured(ops: dict[str, str]) -> None:
    page = ops["ops/fused_adam.md"]
    assert "| 9.24 ms, 2,824 GB/s | torch fused 10.9 ms: 1.19 times as long, torch" in page
    assert "GPT-2's 148 tensors" in page and "Triton's kernel" in page
    assert "bitsandbytes 27.9 ms: 4.19 times as long" in ops["ops/adam8bit.md"]
    # An op for the host has no figures of a GPU.
    assert "H100" in page and "H100" not in ops["ops/cpu_adam.md"]
    assert "memory pass" in ops["ops/cpu_adam.md"]
    assert "## Numbers" not in ops["ops/utils.md"]


def test_an_ops_page_names_the_element_types(ops: dict[str, str]) -> None:
    # Those of I/O take bytes of any type.
    for op in {*DECLARED} - {"async_io", "pin_memory"}:
        kind = resolve(DECLARED[op])
        told = " ".join(inspect.getdoc(getattr(kind, name)) or "" for name in kind.functions)
        assert re.search(r"float32|float16|uint8", told + (inspect.getdoc(kind) or "")), op


def test_the_reference_has_every_public_name(site: ModuleType) -> None:
    import accel

    pages = {name: site.api_page(*page) for name, page in site._API.items()}
    for name in accel.optim.__all__:
        assert f"::: accel.optim.{name}\n" in pages["optim"]
    # Without the methods that a base class calls, and constants.
    assert "members: [float_state_dict, with_float_moments]" in pages["optim"]
    assert not re.search(r"\b(hyper|state_keys|builder|states)\b", pages["optim"])
    for name in accel.__all__:
        if name not in site._ELSEWHERE:
            assert f"::: accel.{name}\n" in pages["accel"]
    first = pages["accelerator"].index("get_op_builder")
    assert first < pages["accelerator"].index("op_builder_dir")
    for kind in accel.Accelerator.__mro__[1:-1]:
        for name in vars(kind):
            assert name.startswith("_") or re.search(rf"\b{name}\b", pages["accelerator"]), name


def test_figures_are_those_of_the_results(figures: ModuleType) -> None:
    stale = [
        page for page in figures.pages() if figures.renewed(page.read_text()) != page.read_text()
    ]
    assert stale == [], "run benchmarks/readme.py"
    assert "<!-- figures: three -->" in (ROOT / "README.md").read_text()
    with pytest.raises(KeyError):
        figures.renewed("<!-- figures: none -->\n<!-- end of figures -->")


def test_the_plot_is_drawn_from_the_results(figures: ModuleType, tmp_path: Path) -> None:
    races = figures.races()
    facts = json.loads((ROOT / "benchmarks/results/nvidia-h100-80gb-hbm3.json").read_text())
    many = facts["measures"]["many_tensors"]
    assert ("CPU" in str(races)) is ("busy" not in figures.cpu()["note"])
    ratio = races["H100: 2000 tensors of 1024"]["torch fused"]
    assert ratio == many["times_torch_fused"] > 1.9
    subprocess.run([sys.executable, "-c", (
        f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
        f"import pathlib, readme; readme.draw(pathlib.Path({str(tmp_path / 'x.png')!r}))"
    )], check=True, cwd=tmp_path)  # fmt: skip
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_on_a_cpu_becomes_a_result(
    figures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accel import accelerator_for
    from accel.bench import bounds, optim, results, timing

    seconds = {optim.OURS: 2.0, "torch fused": 3.0, "torch foreach": 8.0, bounds.PASS: 1.0}
    times = {name: [one] * 3 for name, one in seconds.items()}
    case = {
        "limit": bounds.PASS,
        "contestants": timing.summary(times, {name: optim.against(name) for name in times}),
    }
    surroundings = results.surroundings(accelerator_for("cpu"))
    cases = dict.fromkeys(figures.SHAPES, case)
    run = {**surroundings, "method": optim.METHOD, "cases": cases}
    (tmp_path / "optim.json").write_text(json.dumps(run))
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    made = figures.record(tmp_path / "optim.json", "A note.")
    facts = json.loads(made.read_text())
    assert made.name.startswith("cpu-") and {"cpu", "date", "method", "torch"} <= set(facts)
    assert facts["measures"]["adam_big"]["times_torch_foreach"] == 4.0
    assert facts["measures"]["adam_big"]["of_a_memory_pass"] == 0.5
    assert figures.host().count("| 1.50 | 4.00 |") == 3
    assert "A note." in figures.host_method()


def test_every_target_of_make_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pattern = re.compile(r"`make ([a-z -]+)`|^make ([a-z-]+)", re.MULTILINE)
    found = [pattern.findall(page.read_text()) for page in PAGES]
    named = {word for page in found for pair in page for one in pair for word in one.split()}
    assert {"train", "test", "wheel", "docs", "lint", "devices"} <= named
    assert named - targets == set()
