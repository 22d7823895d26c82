"""What `pyproject.toml` cannot say: the extension, and that its C files are compiled side by side."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class BuildSideBySide(build_ext):
    """Setuptools compiles one file after another; with as many at a time as there are processors it takes half."""

    def build_extension(self, ext: Extension) -> None:
        """Compile and link as setuptools does, each file by a call of its own."""
        one_call = self.compiler.compile

        def compile_each(sources: list[str], **how: Any) -> list[str]:
            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                return [name for names in pool.map(lambda source: one_call([source], **how), sources) for name in names]

        self.compiler.compile = compile_each
        super().build_extension(ext)


setup(cffi_modules=["cdefs/build.py:ffibuilder"], cmdclass={"build_ext": BuildSideBySide})
