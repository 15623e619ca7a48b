"""Builds the CPU engine of TV-L1; all else about the package is in pyproject.toml.

One build serves Python 3.11 and later. Without a C compiler the engine is left out, and OpenCV's
is used in its place.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import Extension, setup

KERNELS = Path("mer_prep/_kernels")  # relative, as setuptools wants sources to be

engine = Extension(
    "mer_prep.ops._tvl1",
    sources=sorted(map(str, KERNELS.glob("*.c"))),
    depends=sorted(map(str, KERNELS.glob("*.h"))),
    define_macros=[("Py_LIMITED_API", "0x030b0000")],
    extra_compile_args=[
        "-std=gnu11",
        "-O3",
        "-g0",
        # No product is fused with a sum: the flow has the same bits on every processor.
        "-ffp-contract=off",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-Wno-psabi",
    ],
    extra_link_args=["-lm"],
    py_limited_api=True,
    optional=True,
)

setup(ext_modules=[engine], options={"bdist_wheel": {"py_limited_api": "cp311"}})
