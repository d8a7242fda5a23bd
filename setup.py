"""The one compiled module; everything else stands in pyproject.toml."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "vmstream._kernels",
            ["src/vmstream/_kernels.pyx"],
            depends=["src/vmstream/_xbzrle.h"],
            extra_compile_args=["-O3", "-g0"],
        )
    ]
)
