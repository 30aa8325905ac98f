"""Stands in for setuptools while vLLM's source distribution is unpacked: see `build_meta`."""
