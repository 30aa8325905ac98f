"""Configurations of load balancers that others made, over servers that run: nginx, and vLLM's production-stack router.

This console routes no request itself. Pure: a proxy is a row of `PROXIES`, from servers to the text of one file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from console.core.proxy.nginx import nginx_file
from console.core.proxy.router import router_file
from console.core.proxy.servers import Balanced, ProxyError, ProxySpec

__all__ = ["PROXIES", "Balanced", "ProxyError", "ProxySpec"]

PROXIES: Final[Mapping[str, Callable[[ProxySpec], str]]] = {"nginx": nginx_file, "vllm-router": router_file}
