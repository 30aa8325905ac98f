"""nginx over several servers of one model.

Sources: nginx's ngx_http_upstream_module and ngx_http_proxy_module. `zone` makes `least_conn` and the failures count
over all worker processes. Health is passive: open-source nginx asks nobody by itself.
"""

from __future__ import annotations

from typing import Final

from console.core.proxy.servers import ProxyError, ProxySpec, comment, plain_address

__all__ = ["nginx_file"]

UPSTREAM: Final = "dsv4_vllm"
READ_TIMEOUT_S: Final = 3_600
"""Between two pieces of an answer: the first may wait in a long queue, and without streaming it is the whole answer."""
CONNECT_TIMEOUT_S: Final = 3
MAX_FAILS: Final = 2
FAIL_TIMEOUT_S: Final = 10
BODY_MIB: Final = 64
"""Room for a prompt of a million tokens, and for images."""
KEEPALIVE_PER_SERVER: Final = 32


def nginx_file(spec: ProxySpec) -> str:
    """A file for nginx's `http` block.

    Raises:
        ProxyError: the servers differ in their model, or one cannot be reached by plain HTTP.
    """
    models = {server.model for server in spec.servers if server.model}
    if len(models) > 1:
        raise ProxyError(
            f"nginx cannot tell requests apart by model, and these serve {', '.join(sorted(models))}; "
            "write one file per model, or export proxy vllm-router, which routes by model"
        )
    servers = [
        f"    server {plain_address(server)} max_fails={MAX_FAILS} fail_timeout={FAIL_TIMEOUT_S}s;"
        f"  # {comment(server.name)}"
        for server in spec.servers
    ]
    where = spec.where
    host = f"[{where.host}]" if ":" in where.host else where.host
    return "\n".join(
        [
            "# Written by dsv4-console export proxy nginx.",
            "# For the http block of nginx.conf, for example as /etc/nginx/conf.d/vllm.conf; then: nginx -t",
            f"# Model: {comment(next(iter(models), 'not known'))}",
            f"upstream {UPSTREAM} {{",
            f"    zone {UPSTREAM} 128k;",
            "    least_conn;",
            *servers,
            f"    keepalive {KEEPALIVE_PER_SERVER * len(servers)};",
            "}",
            "",
            "server {",
            f"    listen {host}:{where.port};",
            f"    client_max_body_size {BODY_MIB}m;",
            "",
            "    # Figures are per server: scraped through a proxy, they would jump from one to another.",
            "    location = /metrics {",
            "        return 404;",
            "    }",
            "",
            "    location / {",
            f"        proxy_pass http://{UPSTREAM};",
            "        proxy_http_version 1.1;",
            '        proxy_set_header Connection "";',
            "        proxy_set_header Host $host;",
            "        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
            "        # Tokens go on as they come.",
            "        proxy_buffering off;",
            "        proxy_cache off;",
            f"        proxy_connect_timeout {CONNECT_TIMEOUT_S}s;",
            f"        proxy_read_timeout {READ_TIMEOUT_S}s;",
            f"        proxy_send_timeout {READ_TIMEOUT_S}s;",
            "        # Without non_idempotent a request that a server has taken is never sent to another, so nobody",
            "        # pays for an answer twice. One that found no server goes on to the next.",
            "        proxy_next_upstream error timeout;",
            "        proxy_next_upstream_tries 2;",
            "        # A client that leaves ends its request, and vLLM frees its KV cache.",
            "        proxy_ignore_client_abort off;",
            "    }",
            "}",
            "",
        ]
    )
