"""`python -m console` is the same as `dsv4-console`."""

from __future__ import annotations

from console.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
