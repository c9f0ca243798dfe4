"""Pages of the site that follow from the code, as a hook of mkdocs: see ``mkdocs.yml``.

The home page is README, each op has a page from its declaration, and the reference's pages name
what is documented, most important first. The navigation has every page of ``docs``; one that no
section asks for is in "Guides".
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
DOCS = ROOT / "docs"
ROOT_PAGES = {"CHANGELOG.md": "changelog.md"} | {
    name: name.lower() for name in ("CONTRIBUTING.md", "SECURITY.md")
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
# Pages of the reference: what comes first; what else a module exports follows.
_API: Mapping[str, tuple[str, str, Sequence[str]]] = {
    "accel": ("accel", "accel", (
        "get_accelerator", "use_accelerator", "set_accelerator", "accelerator_for", "candidates",
        "register_accelerator", "register_op")),
    "accelerator": ("Accelerator", "accel.base", ("Accelerator",)),
    "optim": ("Optimizers", "accel.optim", (
        "FusedAdam", "CPUAdam", "Adam8bit", "FusedLion", "clip_grad_norm_")),
    "builders": ("Builders", "accel.builders.base", ("OpBuilder",)),
    "ops": ("Declaring ops", "accel.ops.frame.declaration", ("DeclaredOp", "OpSet")),
    "testing": ("Conformance", "accel.testing", ()),
    "errors": ("Errors", "accel.errors", ("AccelError",)),
}  # fmt: skip
_SECTIONS = (
    ("Why", ("why.md",)),
    ("Coming from", ("coming-from/*.md",)),
    ("Integrations", ("integrations/*.md",)),
    ("Extend", ("add-*.md",)),
    ("Ops", ("ops/*.md",)),
    ("Reference", tuple(f"api/{name}.md" for name in _API)),
    ("Project", ("compatibility.md", "architecture.md", "gpu.md", "releasing.md",
                 "changelog.md", "contributing.md", "security.md")),
)  # fmt: skip
_ELSEWHERE = ("errors", "ops", "optim", "testing", "Accelerator")
# The members of the contract, by topic; those that most programs call come first.
_TOPICS: Sequence[tuple[str, str, Sequence[str]]] = (
    ("Ops", "ops:OpMembers", ("get_op_builder", "create_op_builder")),
    ("Devices", "device:DeviceMembers", (
        "device_name", "device", "device_count", "current_device", "current_device_name",
        "set_device", "device_index", "synchronize", "device_properties")),
    ("Memory", "memory:MemoryMembers", (
        "memory_allocated", "max_memory_allocated", "available_memory", "total_memory",
        "empty_cache", "pin_memory")),
    ("Streams, events and graphs", "streams:StreamMembers", ("Stream", "stream", "Event")),
    ("Types", "dtypes:DtypeMembers", (
        "supported_dtypes", "is_bf16_supported", "is_fp16_supported")),
    ("Mixed precision", "amp:AmpMembers", ()),
    ("Random numbers", "randomness:RandomMembers", ("manual_seed", "manual_seed_all")),
    ("Tools", "tools:ToolMembers", ("communication_backend_name",)),
    ("What a backend declares", "forward:Forwarding", ("is_available",)),
)  # fmt: skip

# Measures that are not named by their op's family, and what the others' names say.
_FAMILY = {"many_tensors": "adam", "gpt2": "adam", "triton_adam_fp32": "adam",
           "bitsandbytes_adam8bit": "adam8bit"}  # fmt: skip
_TITLES = {
    "many": "2000 tensors of 1024",
    "gpt2": "GPT-2's 148 tensors",
    "big": "one tensor of 32 M",
    "few": "100 tensors of 1024",
    "middle": "300 tensors of 10 000",
    "fp32": "float32, {elements:,} elements",
    "bf16": "bfloat16, {elements:,} elements",
    "bf16_master": "bfloat16 with float32 masters, {elements:,} elements",
    "many_tensors": "2000 tensors of 1024",
    "triton_adam_fp32": "float32, {elements:,} elements, Triton's kernel",
    "bitsandbytes_adam8bit": "float32, {elements:,} elements",
}
_PEERS = {"deepspeed": "DeepSpeed", "adam_fp32": "float32 Adam", "adam8bit_bf16": "bfloat16",
          "native": "the CUDA kernel", "stochastic": "stochastic rounding"}  # fmt: skip
_BEST = """The best rung that is declared for each backend; native is prebuilt, else compiled on
first use. What a machine lacks, such as a compiler, leads to the next rung: `accel explain <op>`
says which, and why. README's table says on which devices this has run."""


def generated() -> Iterator[tuple[str, str]]:
    """Yield the path below ``docs`` and the text of every page that is generated."""
    yield "index.md", (ROOT / "README.md").read_text()
    for source, target in ROOT_PAGES.items():
        if (ROOT / source).is_file():
            yield target, (ROOT / source).read_text()
    for name, page in _API.items():
        yield f"api/{name}.md", api_page(*page)
    yield from op_pages()


def exported(module: str) -> list[str]:
    """Return the names in a module's ``__all__``, or its public classes and functions in order."""
    found = import_module(module)
    if module == "accel":
        return [name for name in found.__all__ if name not in _ELSEWHERE]
    if hasattr(found, "__all__"):
        return [*found.__all__]
    own = [one for one in vars(found).values() if getattr(one, "__module__", "") == module]
    return [one.__name__ for one in own if not one.__name__.startswith("_")]


def api_page(title: str, module: str, first: Sequence[str]) -> str:
    """Return a page of the reference: what comes `first`, then what else the module exports."""
    if title == "Accelerator":
        from accel.targets import resolve

        parts = [f"# {title}\n\n::: accel.base.Accelerator\n    options: {{members: false}}"]
        for topic, where, first_of in _TOPICS:
            kind = vars(resolve(f"accel.contract.{where}"))
            absent = [name for name in first_of if name not in kind]
            if absent:
                raise LookupError(f"tools/docs.py: {where} has no {', '.join(absent)}.")
            rest = [name for name in kind if name not in first_of and not name.startswith("_")]
            options = "show_root_heading: false, show_root_toc_entry: false, heading_level: 3, "
            options += f"members: [{', '.join([*first_of, *rest])}]"
            path = where.replace(":", ".")
            parts.append(f"## {topic}\n\n::: accel.contract.{path}\n    options: {{{options}}}")
        return "\n\n".join(parts) + "\n"
    names = [*first, *(name for name in exported(module) if name not in first)]
    shown = _optimizer if module == "accel.optim" else _whole
    return "\n\n".join([f"# {title}", *(shown(module, name) for name in names)]) + "\n"


def _whole(module: str, name: str) -> str:
    return f"::: {module}.{name}"


def _optimizer(module: str, name: str) -> str:
    """Return the directive for an optimizer without the methods that its base class calls."""
    found = getattr(import_module(module), name)
    if not inspect.isclass(found):
        return _whole(module, name)
    from accel.optim.base import KernelOptimizer

    own = [
        member
        for kind in found.__mro__
        if kind not in KernelOptimizer.__mro__
        for member, value in vars(kind).items()
        if inspect.isroutine(value) and member[0] != "_" and not hasattr(KernelOptimizer, member)
    ]
    return f"::: {module}.{name}\n    options: {{members: [{', '.join(own)}]}}"


def op_pages() -> Iterator[tuple[str, str]]:
    """Yield a page for each of accel's ops, and their table; torch is needed."""
    import accel
    from accel.builders.convention import DECLARED, name_of

    first = ("cpu", "cuda", "xpu", "hpu")
    others = sorted({candidate.name for candidate in accel.candidates()} - {*first})
    backends = [*first, *others]
    columns: dict[str, list[str]] = {name: [] for name in backends}
    rows = []
    for op, target in DECLARED.items():
        found = {name: rungs(op, name) for name in backends}
        for name, column in columns.items():
            best = found[name][0][0]
            column.append("native" if best == "prebuilt" else best)
        rows.append(f"| [`{op}`]({op}.md) | `{name_of(target)}` |")
        yield f"ops/{op}.md", op_page(op, target, found)
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, column in columns.items():
        alike.setdefault(tuple(column), []).append(name)
    heads = "".join(f" {', '.join(names)} |" for names in alike.values())
    cells = ("".join(f" {one} |" for one in line) for line in zip(*alike, strict=True))
    text = ["# Ops", "", f"| op | builder |{heads}", "|---" * (2 + len(alike)) + "|"]
    text += [row + line for row, line in zip(rows, cells, strict=True)]
    yield "ops/index.md", "\n".join([*text, "", _BEST, ""])


def rungs(op: str, backend: str) -> list[tuple[str, str]]:
    """Return the rungs that an op declares on a backend, best first, each with what it runs."""
    from accel import registry
    from accel.ops.optimizers.gaudi import STEPS

    builder = registry.strategy(backend).create_op_builder(op)
    found = []
    if builder.has_sources():
        source = ", ".join(f"`csrc/{one}`" for one in map(_in_csrc, builder.sources()))
        found += [("prebuilt", source), ("jit", source)]
    kernel = getattr(builder, "triton", "") or builder.entry_point
    if kernel and builder.uses_triton:
        found.append(("portable", "a Triton kernel"))
    if any(rung == "vendor" for rung, _ in builder.stand_ins()) and builder.entry_point in STEPS:
        found.insert(0, ("vendor", "the vendor's optimizer, if its arguments allow"))
    return [*found, ("reference", "plain PyTorch")]


def _in_csrc(source: str) -> str:
    return source.rpartition("csrc/")[2]


def op_page(op: str, target: str, found: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """Return an op's page: its surface, its rungs on each backend, its numbers."""
    from accel.builders.convention import name_of
    from accel.targets import resolve

    kind: Any = resolve(target)
    parts = [f"# {op}", inspect.getdoc(kind) or "", "```python"]
    parts += [f'op = accel.get_accelerator().get_op_builder("{name_of(target)}")().load()', "```"]
    parts += ["", "## Functions", ""]
    parts += [_function(kind, name) for name in kind.functions]
    parts += ["", "## Rungs", "", "| backend | rungs, best first |", "|---|---|"]
    alike: dict[str, list[str]] = {}
    for backend, rows in found.items():
        alike.setdefault(_ladder(rows), []).append(f"`{backend}`")
    parts += [f"| {', '.join(backends)} | {ladder} |" for ladder, backends in alike.items()]
    measured = numbers(op, target.partition(":")[0].rpartition(".")[2])
    if measured:
        parts += ["", "## Numbers", "", "Times of one step, and how long others take.", ""]
        parts += ["| device | what | accel | others |", "|---|---|---|---|", *measured]
    return "\n".join([*parts, ""])


def _ladder(rows: Sequence[tuple[str, str]]) -> str:
    """Return a table's cell: a line for each thing that runs, with the rungs that run it."""
    alike: dict[str, list[str]] = {}
    for rung, what in rows:
        alike.setdefault(what, []).append(rung)
    return "<br>".join(f"{', '.join(names)}: {what}" for what, names in alike.items())


def _function(kind: type, name: str) -> str:
    """Return the directive for a function that its source shows, else what Python knows of it."""
    value = inspect.getattr_static(kind, name)
    for owner in kind.__mro__:
        if name in vars(owner) and inspect.isfunction(value):
            path = f"{owner.__module__}.{owner.__qualname__}.{name}"
            if path == f"{value.__module__}.{value.__qualname__}":
                return f"::: {path}\n    options: {{heading_level: 3}}\n"
    text = inspect.cleandoc(getattr(value, "__doc__", "") or "")
    schema = getattr(value, "schema", "") or getattr(kind, "schema", "")
    return f"### `{schema or name}`\n\n{text}\n"


def numbers(op: str, stem: str) -> list[str]:
    """Return rows of a table: what ``benchmarks/results`` measured of an op of the family `stem`.

    An op for the host alone has the rows of CPUs alone.
    """
    rows = []
    for file in sorted((ROOT / "benchmarks/results").glob("*.json")):
        facts = json.loads(file.read_text())
        if op.startswith("cpu_") and "gpu" in facts:
            continue
        busy = " (busy)" if "busy" in facts.get("note", "") else ""
        device = f"{facts.get('gpu') or facts.get('cpu')}{busy}, {str(facts.get('date'))[:10]}"
        for name, one in facts.get("measures", {}).items():
            if _FAMILY.get(name, name.partition("_")[0]) == stem and "seconds" in one:
                what = _TITLES.get(name.removeprefix(f"{stem}_"), name.replace("_", " "))
                own = f"{_milliseconds(one['seconds'])}{_rate(one)}"
                rows.append(f"| {device} | {what.format(**one)} | {own} | {_others(one)} |")
    return rows


def _rate(one: Mapping[str, Any]) -> str:
    if "bytes_per_s" in one:
        return f", {one['bytes_per_s'] / 1e9:,.0f} GB/s"
    part = one.get("of_a_memory_pass")
    return "" if part is None else f", {part:.2f} of a memory pass's speed"


def _others(one: Mapping[str, Any]) -> str:
    """Return the time of each peer, and how many times as long as accel's it is."""
    peers = [key.removeprefix("times_") for key in one if key.startswith("times_")]
    return ", ".join(
        f"{_PEERS.get(peer, peer.replace('_', ' '))} {_milliseconds(one[f'{peer}_seconds'])}: "
        f"{one[f'times_{peer}']:.2f} times as long"
        for peer in peers
        if f"{peer}_seconds" in one
    )


def _milliseconds(seconds: float) -> str:
    return f"{_digits(seconds * 1e3)} ms"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def site_link(page: str, link: str) -> str | None:
    """Return a link of a page as the site has it; ``None`` for a file that is not on the site.

    Args:
        page: the page's path below ``docs``.
        link: as it is written, relative to the page's file in the repository.
    """
    path, mark, anchor = link.partition("#")
    if re.match(r"[a-z]+:", link) or not path:
        return link
    of_root = {target: ROOT / source for source, target in ROOT_PAGES.items()}
    of_root["index.md"] = ROOT / "README.md"
    if page.startswith(("api/", "ops/")):
        return link
    file = of_root.get(page, DOCS / page)
    found = Path(os.path.normpath(file.parent / path))
    here = Path(page).parent
    try:
        inside = found.relative_to(ROOT)
    except ValueError:
        return link
    if str(inside) in ROOT_PAGES:
        target = ROOT_PAGES[str(inside)]
    elif str(inside) == "README.md":
        target = "index.md"
    elif inside.parts[:1] == ("docs",):
        target = str(found.relative_to(DOCS))
    elif found.suffix in {".png", ".svg"} and found.is_file():
        target = f"figures/{found.name}"
    else:
        return None if found.exists() else link
    return os.path.relpath(target, here) + mark + anchor


def for_site(page: str, text: str) -> str:
    """Return a page's text with its links as the site has them; code is left alone."""

    def one(match: re.Match[str]) -> str:
        image, words, link = match.groups()
        found = site_link(page, link)
        return words if found is None else f"{image}[{words}]({found})"

    pieces = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(piece if piece.startswith("```") else _LINK.sub(one, piece) for piece in pieces)


def navigation(pages: Sequence[str]) -> list[Any]:
    """Return the navigation of all pages, by sections; a page of no section is in "Guides"."""
    left = sorted(set(pages) - {"index.md"})
    nav: list[Any] = [{"Home": "index.md"}]
    for title, patterns in _SECTIONS:
        inside = [page for one in patterns for page in left if Path(page).match(one)]
        inside.sort(key=lambda page: not page.endswith("index.md"))
        left = [page for page in left if page not in inside]
        if len(inside) == 1 and title == "Why":
            nav.append({title: inside[0]})
        elif inside:
            nav.append({title: inside})
    if left:
        nav.insert(-len(_SECTIONS) + 3, {"Guides": left})
    return nav


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages and the figures, and set the navigation (a hook of mkdocs)."""
    from mkdocs.structure.files import File

    for name, text in generated():
        files.append(File.generated(config, name, content=text))
    for figure in sorted((ROOT / "benchmarks/results").glob("*.[ps][nv]g")):
        name = f"figures/{figure.name}"
        files.append(File.generated(config, name, abs_src_path=str(figure)))
    config.nav = navigation([file.src_uri for file in files.documentation_pages()])
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrite a page's links for the site (a hook of mkdocs)."""
    if page.file.src_uri in ("index.md", "why.md"):
        page.meta["hide"] = ["navigation"]  # It would list the page alone.
    if page.file.src_uri == "ops/index.md":
        page.meta["hide"] = ["toc"]
    return for_site(page.file.src_uri, markdown)
