"""Benchmarks of the console: figures side by side, no pass and no fail.

`python -m tests.benchmarks [--quick] [NAME…]` from the repository's root. They start processes of their own in a
scratch state directory, on loopback, and end them whatever happens.
"""
