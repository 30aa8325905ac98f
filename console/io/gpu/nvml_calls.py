"""Asking NVML one thing at a time: a call that fails is `None`, and what a GPU does not know is not asked for a while.

Separate from what is asked (`nvml_read`): here is all that must hold for every call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final

from console.io.gpu.nvml_errors import (
    DEPRECATED,
    ERRORS,
    FUNCTION_NOT_FOUND,
    INVALID_ARGUMENT,
    NOT_SUPPORTED,
    UNKNOWN_CODE,
    VERSION_MISMATCH,
    error_code,
)

__all__ = ["ALL_LINKS", "Field", "Nvml", "Value"]

ALL_LINKS: Final = 0xFFFF_FFFF
"""Scope of an NVLink counter that stands for the sum over all links (`nvml.h`: `UINT_MAX`)."""
ASK_AGAIN_S: Final = 60.0
"""What a GPU does not support is asked again after this time: a change of its modes may have brought it."""
LACKING: Final = frozenset({INVALID_ARGUMENT, NOT_SUPPORTED, FUNCTION_NOT_FOUND, VERSION_MISMATCH, DEPRECATED})
FIELD_KINDS: Final = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Member of a field's value by its `nvmlValueType_t`."""
WIDE_KINDS: Final = frozenset({2, 3, 4})

Value = tuple[float, bool]
"""A field's value, and whether it is at least 64 bits wide."""

Field = tuple[str, int]
"""Name of a field's constant without `NVML_FI_DEV_`, and its scope: a link, or 0."""


class Nvml:
    """pynvml, once it is initialized.

    Args:
        module: `pynvml`.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.last_code = UNKNOWN_CODE
        """Error code of the last call that failed."""
        self._trouble_code: int | None = None
        self._lacking: dict[tuple[str, int], float] = {}

    def take_trouble(self) -> int:
        """Code of the last failure since the call before that means something to the operator, else of the last one."""
        code, self._trouble_code = self._trouble_code, None
        return self.last_code if code is None else code

    def constant(self, name: str) -> Any:
        """A constant of pynvml; `None` if this version of it does not have it."""
        return getattr(self.module, name, None)

    def ask(self, function: str, *args: Any) -> Any:
        """What an NVML function answers; `None` if it fails or this library does not have it."""
        call = getattr(self.module, function, None)
        if call is None:
            return None
        try:
            return call(*args)
        except self.module.NVMLError as error:
            self.last_code = error_code(error)
            if self.last_code in ERRORS:
                self._trouble_code = self.last_code
        except (ctypes.ArgumentError, AttributeError, TypeError, ValueError):
            self.last_code = UNKNOWN_CODE  # this version of pynvml has another signature
        return None

    def ask_device(self, device: int, now_s: float, function: str, *args: Any) -> Any:
        """As `ask`, and what this GPU was found to lack is not asked again for `ASK_AGAIN_S`.

        Args:
            device: index of the GPU.
            now_s: seconds of a clock that never goes back.
        """
        key = (f"{function}{args[1:]}", device)
        if now_s < self._lacking.get(key, now_s):
            return None
        self.last_code = UNKNOWN_CODE
        answer = self.ask(function, *args)
        if answer is None and self.last_code in LACKING:
            self._lacking[key] = now_s + ASK_AGAIN_S
        return answer

    def fields(self, device: int, now_s: float, handle: Any, wanted: Sequence[Field]) -> dict[Field, Value]:
        """Those of the fields that the GPU knows, in one call.

        Args:
            device: index of the GPU.
            now_s: seconds of a clock that never goes back.
            handle: NVML's handle of it.
            wanted: what to ask.
        """
        asked = []
        for name, scope in wanted:
            number = self.constant(f"NVML_FI_DEV_{name}")
            if number is not None and now_s >= self._lacking.get((f"{name}/{scope}", device), now_s):
                asked.append(((name, scope), number))
        if not asked:
            return {}
        answers = self.ask("nvmlDeviceGetFieldValues", handle, [(number, scope) for (_, scope), number in asked])
        found: dict[Field, Value] = {}
        for ((name, scope), _), answer in zip(asked, answers or (), strict=False):
            code = int(answer.nvmlReturn)
            if code == 0 and 0 <= answer.valueType < len(FIELD_KINDS):
                value = getattr(answer.value, FIELD_KINDS[answer.valueType])
                found[name, scope] = (value, int(answer.valueType) in WIDE_KINDS)
            elif code in LACKING:
                self._lacking[f"{name}/{scope}", device] = now_s + ASK_AGAIN_S
        return found
