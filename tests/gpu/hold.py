"""Holds GPU memory as another program would: `python hold.py GIB [SECONDS]`. Needs PyTorch, and nothing of this."""

from __future__ import annotations

import sys
import time


def main() -> None:
    """Take it, say so, keep it."""
    import torch

    held = torch.empty(int(float(sys.argv[1]) * 2**30), dtype=torch.uint8, device="cuda")
    print(f"holding {held.numel() / 2**30:.1f} GiB", flush=True)
    time.sleep(float(sys.argv[2]) if len(sys.argv) > 2 else 300.0)


if __name__ == "__main__":
    main()
