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
    return "\n\n".join([f"# {title}", *(f"::: {module}.{name}" for name in names)]) + "\n"


def op_pages() -> Iterator[tuple[str, str]]:
    """Yield a page for each of accel's ops, and their table; torch is needed."""
    import accel
    from accel.builders.convention import DECLARED, name_of

    backends = [candidate.name for candidate in accel.candidates()]
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

    builder = registry.strategy(backend).create_op_builder(op)
    found = []
    if builder.has_sources():
        source = ", ".join(f"`csrc/{one}`" for one in map(_in_csrc, builder.sources()))
        found += [("prebuilt", f"{source}, built before"), ("jit", f"{source}, on first use")]
    kernel = getattr(builder, "triton", "") or builder.entry_point
    if kernel and builder.uses_triton:
        found.append(("portable", "a Triton kernel"))
    if any(rung == "vendor" for rung, _ in builder.stand_ins()) and builder.entry_point:
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
    parts += ["", "## Rungs", "", "| backend | rung | what runs |", "|---|---|---|"]
    alike: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for backend, rows in found.items():
        alike.setdefault(tuple(rows), []).append(f"`{backend}`")
    for rows, backends in alike.items():
        for at, (rung, what) in enumerate(rows):
            parts.append(f"| {', '.join(backends) if not at else ''} | {rung} | {what} |")
    measured = numbers(target.partition(":")[0].rpartition(".")[2])
    if measured:
        parts += [
            "",
            "## Numbers",
            "",
            "| device | measure | figures |",
            "|---|---|---|",
            *measured,
        ]
    return "\n".join([*parts, ""])


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


def numbers(stem: str) -> list[str]:
    """Return rows of a table: what ``benchmarks/results`` measured of the family `stem`."""
    rows = []
    for file in sorted((ROOT / "benchmarks/results").glob("*.json")):
        facts = json.loads(file.read_text())
        busy = " (busy)" if "busy" in facts.get("note", "") else ""
        device = f"{facts.get('gpu') or facts.get('cpu')}{busy}, {str(facts.get('date'))[:10]}"
        for name, measure in facts.get("measures", {}).items():
            if name.startswith(f"{stem}_") and isinstance(measure, dict):
                told = ", ".join(
                    _said(key.replace("_", " "), value)
                    for key, value in measure.items()
                    if isinstance(value, (int, float)) and key != "took"
                )
                rows.append(f"| {device} | {name} | {told} |")
    return rows


def _said(key: str, value: float) -> str:
    if key.endswith("seconds"):
        return f"{key.removesuffix('seconds').strip() or 'accel'} {_digits(value * 1e3)} ms"
    if key == "bytes per s":
        return f"{value / 1e9:,.0f} GB/s"
    if key.startswith(("times ", "of ")):
        return f"{value:.2f} {key}"
    return f"{value:,} {key}" if isinstance(value, int) else f"{value:.3g} {key}"


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
