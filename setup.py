from setuptools import setup

setup(cffi_modules=["cdefs/build.py:ffibuilder"])
