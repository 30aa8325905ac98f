"""`python -P -m console.group GROUP_DIR`: hold together the group that this directory describes.

Under a guardian of its own (see `console.supervisor.guardian`). Where no coordinator can be kept alive, the machines go
on by themselves; the next command that looks at the group starts another one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from console.core.errors import ConsoleError, ExitCode
from console.supervisor.guardian import Guardian

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Run one coordinator under its guardian; their own trouble goes to stderr, which is `coordinator.log`."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m console.group GROUP_DIR\n")
        return ExitCode.USAGE
    path = Path(argv[0])
    return Guardian(lambda: coordinate(path), path / "exits").run()


def coordinate(path: Path) -> int:
    """The coordinator itself; returns its exit code."""
    import asyncio
    import traceback

    from console.group.coordinator import Coordinator
    from console.io.groups import GroupDir

    folder = GroupDir(path)
    try:
        with folder.claim() as mine:
            if mine:
                asyncio.run(Coordinator(folder).run())
    except ConsoleError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except Exception:  # whatever it was, the machines go on and another coordinator finds them again
        traceback.print_exc()
        return ExitCode.INTERNAL
    return ExitCode.OK


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
