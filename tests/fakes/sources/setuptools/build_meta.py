"""A build backend that compiles nothing: its wheel holds a source distribution's Python files as they are.

vLLM's wheels are half a gigabyte, its source distributions a tenth of that, and the argument parser needs no compiled
part. Through this backend an ordinary installer fetches and unpacks one.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

KEPT = (".py", ".json", ".jinja")


def get_requires_for_build_wheel(config_settings: object = None) -> list[str]:
    """Nothing has to be there."""
    return []


def build_wheel(wheel_directory: str, config_settings: object = None, metadata_directory: object = None) -> str:
    """Write the wheel and return its name."""
    version = re.search(r"^Version: (.+)$", Path("PKG-INFO").read_text(encoding="utf-8"), re.M)[1].strip()
    info = f"vllm-{version}.dist-info"
    name = f"vllm-{version}-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as wheel:
        for path in sorted(Path("vllm").rglob("*")):
            if path.suffix in KEPT and path.is_file():
                wheel.write(path, path.as_posix())
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        record = "".join(f'"{entry.filename}",,\n' for entry in wheel.infolist())
        wheel.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return name
