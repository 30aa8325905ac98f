"""A terminal control console for serving DeepSeek V4 with vLLM.

Importing the package costs nothing: it only knows its own version.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
