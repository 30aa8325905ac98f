"""A hub of model repositories on 127.0.0.1 that speaks as much of huggingface.co's protocol as a download needs.

The requests are those of huggingface_hub 2.4 (`HfApi.model_info`, `list_repo_tree`, `hf_hub_download`): information,
tree, and HEAD and GET of a file with `ETag`, `X-Repo-Commit` and ranges. Every byte of a file that goes out is counted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["Hub", "Repository"]

CHUNK_BYTES = 65_536
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """One model repository, and what it does to those who ask."""

    files: dict[str, bytes]
    gated: bool = False
    """Information is public, files are not."""
    token: str | None = None
    """With which a gated repository gives its files."""
    cut_after_bytes: int | None = None
    """Of each answer with a file: the connection breaks then."""
    hold_after_bytes: int | None = None
    """Of all files together: from then on nothing more comes, until `Hub.release`."""
    served: dict[str, int] = field(default_factory=dict)
    """Bytes sent, by file."""
    ranges: list[str] = field(default_factory=list)

    @property
    def served_bytes(self) -> int:
        """Of all files."""
        return sum(self.served.values())


class Hub:
    """The server; a context manager."""

    def __init__(self, **repositories: Repository) -> None:
        self.repositories = {name.replace("__", "/"): each for name, each in repositories.items()}
        self.release = threading.Event()
        self.authorizations: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """For HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _entry(name: str, data: bytes) -> dict[str, Any]:
    lfs = {"sha256": _etag(data), "oid": _etag(data), "size": len(data), "pointerSize": 130}
    return {"rfilename": name, "path": name, "type": "file", "size": len(data), "oid": "0", "blobId": "0", "lfs": lfs}


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.authorizations.add(self.headers.get("Authorization", ""))
            path = unquote(urlsplit(self.path).path)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+).*)?", path):
                    self._api(*match.groups())
                elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                    self._file(*match.groups())
                else:
                    self._refuse(404, "EntryNotFound", "no such page")

        def _repository(self, name: str, revision: str | None) -> Repository | None:
            repository = hub.repositories.get(name)
            if repository is None:
                self._refuse(404, "RepoNotFound", "Repository not found")
            elif revision not in (None, "main", COMMIT):
                self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
                return None
            return repository

        def _api(self, name: str, kind: str | None, revision: str | None) -> None:
            repository = self._repository(name, revision)
            if repository is None:
                return
            entries = [_entry(*item) for item in sorted(repository.files.items())]
            about = {"id": name, "modelId": name, "sha": COMMIT, "gated": "manual" if repository.gated else False}
            answer: Any = entries if kind == "tree" else {**about, "siblings": entries}
            self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

        def _file(self, name: str, revision: str, file: str) -> None:
            repository = self._repository(name, revision)
            if repository is None:
                return
            if repository.gated and self.headers.get("Authorization") != f"Bearer {repository.token}":
                self._refuse(403, "GatedRepo", f"Access to model {name} is restricted.")
                return
            data = repository.files.get(file)
            if data is None:
                self._refuse(404, "EntryNotFound", "Entry not found")
                return
            start, code = 0, 200
            headers = {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
                start, code = int(match[1]), 206
                repository.ranges.append(match[0])
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self._send(code, data[start:], headers, (repository, file))

        def _send(
            self, code: int, data: bytes, headers: dict[str, str], counted: tuple[Repository, str] | None = None
        ) -> None:
            self.send_response(code)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if counted is None:
                self.wfile.write(data)
                return
            repository, file = counted
            sent = 0
            for piece in _pieces(data):
                if repository.cut_after_bytes is not None and sent + len(piece) > repository.cut_after_bytes:
                    self.close_connection = True
                    return
                if repository.hold_after_bytes is not None and repository.served_bytes >= repository.hold_after_bytes:
                    hub.release.wait()
                    self.close_connection = True
                    return
                self.wfile.write(piece)
                sent += len(piece)
                repository.served[file] = repository.served.get(file, 0) + len(piece)

        def _refuse(self, code: int, error: str, text: str) -> None:
            headers = {"X-Error-Code": error, "X-Error-Message": text, "Content-Type": "application/json"}
            self._send(code, json.dumps({"error": text}).encode(), headers)

    return Handler


def _pieces(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), CHUNK_BYTES):
        yield data[at : at + CHUNK_BYTES]
