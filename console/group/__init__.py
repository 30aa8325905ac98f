"""Holds a group of machines together: one coordinator process per group, on the machine from which it was started."""
