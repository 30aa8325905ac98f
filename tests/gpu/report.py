"""What the parts found, written to disk after every step: a run that is cut off still has its results."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["PartOver", "Report", "Skip", "replace", "summary"]


class Skip(Exception):
    """A step cannot be done here, and why."""


class PartOver(BaseException):
    """The part's time is used up. No `except Exception` may hold it back."""


class Report:
    """One part: `DIR/partNAME.json`, its lines in `DIR/summary.md`, and `DIR/partNAME/` for raw files."""

    def __init__(self, out: Path, name: int | str, title: str) -> None:
        self.folder = out / f"part{name}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._out = out
        self._name = name
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._document: dict[str, Any] = {"part": name, "title": title, "began_s": time.time(), "steps": []}
        self._write()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """Do one step. What it puts into the dict is kept, `says` goes into the summary; a failure is noted only."""
        row: dict[str, Any] = {"step": name, "result": "running"}
        with self._lock:
            self._document["steps"].append(row)
        began = time.monotonic()
        print(f"part {self._name}: {name}", flush=True)
        self._write()
        try:
            yield row
            row["result"] = "failed" if row.get("wrong") else "done"
        except Skip as reason:
            row["result"], row["error"] = "skipped", str(reason)
        except Exception as error:
            row["result"], row["error"] = "failed", f"{type(error).__name__}: {error}"[:2000]
            row["traceback"] = traceback.format_exc()[-4000:]
        except BaseException as error:
            row["result"], row["error"] = "cut off", f"{type(error).__name__}: {error}"
            raise
        finally:
            row["seconds"] = round(time.monotonic() - began, 1)
            self._write()
            said = row.get("error") or row.get("says") or ""
            print(f"part {self._name}: {name}: {row['result']} ({row['seconds']} s) {said}"[:500], flush=True)

    def close(self) -> None:
        """Note how long it took."""
        with self._lock:
            self._document["seconds"] = round(time.monotonic() - self._began, 1)
        self._write()

    def _write(self) -> None:
        with self._lock:
            text = json.dumps(self._document, indent=1, ensure_ascii=False, default=str)
            replace(self._out / f"part{self._name}.json", text)
            replace(self._out / "summary.md", summary(self._out))


def replace(path: Path, text: str) -> None:
    """Write a file in one step."""
    partial = path.with_suffix(".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def summary(out: Path) -> str:
    """A table of all steps of all parts so far."""
    lines = ["# The console on a real GPU", "", "| part | step | result | s | figures |", "|---|---|---|---|---|"]
    for path in sorted(out.glob("part*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        for row in document["steps"]:
            said = " · ".join(str(row[key]) for key in ("says", "wrong", "error") if row.get(key))
            cells = (document["part"], row["step"], row["result"], row.get("seconds", ""), said)
            lines.append(
                "| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ")[:600] for cell in cells) + " |"
            )
        lines.append(f"| {document['part']} | **{document['title']}** | | {document.get('seconds', '')} | |")
    return "\n".join(lines)
