"""CUDA kernels built for the host, beside the CPU's own."""

from accel.jit import Recipe, acquire, csrc_dir


def library(name, *, host):
    """The op's library, built once per session: the CPU's own, or the CUDA kernels as plain C++.

    In the latter a launch is a loop over blocks and threads.
    """
    kind = "cuda" if host else "cpu"
    folders = (csrc_dir() / "include", csrc_dir() / kind)
    common = {"backend": "cpu", "include_dirs": folders}
    if not host:
        sources = (csrc_dir() / f"cpu/optimizers/{name}.cpp",)
        return acquire(Recipe(name=name, sources=sources, openmp=True, **common))
    flags = ("-xc++", "-DACCEL_HOST_BUILD", "-Werror")
    sources = (csrc_dir() / f"cuda/optimizers/{name}.cu",)
    return acquire(Recipe(name=f"{name}_on_host", sources=sources, compile_flags=flags, **common))
