"""Progress of a download, and the reasons for which one ends."""

from __future__ import annotations

import msgspec
import pytest

from console.core.download import (
    REFUSALS,
    DownloadProgress,
    HubFile,
    Listing,
    RateMeter,
    is_repository,
    progress_text,
    refusal,
    start_text,
    telling,
)

GIB = 1024**3
HALF = DownloadProgress(
    path="/cache", bytes_done=40 * GIB, bytes_total=160 * GIB, files_done=10, files_total=46, free_bytes=900 * GIB
)


def test_a_second_copy_of_the_weights_is_left_out_and_equal_files_count_once() -> None:
    files = [("a.safetensors", 5, "x"), ("b.safetensors", 5, "x"), ("original/all.pth", 100, "y"), ("c", 1, "z")]
    listing = Listing(commit="c", files=tuple(HubFile(name=n, size_bytes=s, blob=b) for n, s, b in files))
    assert [file.name for file in listing.wanted] == ["a.safetensors", "b.safetensors", "c"]
    assert listing.size_bytes == 6


def test_no_rate_before_there_is_enough_to_tell() -> None:
    meter = RateMeter()
    assert meter.rate_bytes_per_s is None
    assert meter.left_s(10) is None
    assert meter.quiet_s == 0
    meter.add(100.0, 5)
    meter.add(101.0, 1005)
    assert meter.rate_bytes_per_s is None
    meter.add(102.0, 2005)
    assert meter.rate_bytes_per_s == 1000
    assert meter.left_s(5000) == 5
    assert meter.left_s(0) == 0


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    meter = RateMeter()
    for second in range(100):
        meter.add(float(second), 1000 * second)
    for second in range(100, 131):
        meter.add(float(second), 99_000 + 10 * (second - 99))
    assert meter.rate_bytes_per_s == 10


def test_a_file_that_begins_again_gives_no_rate_below_zero() -> None:
    meter = RateMeter()
    meter.add(0.0, 5000)
    meter.add(10.0, 1000)
    assert meter.rate_bytes_per_s == 0
    assert meter.left_s(100) is None
    assert meter.quiet_s == 10
    meter.add(12.0, 2000)
    assert meter.quiet_s == 0


def test_progress_in_words() -> None:
    assert progress_text(HALF) == " 25%  40.0 GiB of 160 GiB  –  – left  10/46 files"
    going = msgspec.structs.replace(HALF, rate_bytes_per_s=300 * 1024.0**2, left_s=410.0)
    assert progress_text(going) == " 25%  40.0 GiB of 160 GiB  300 MiB/s  6m50s left  10/46 files"
    assert "nothing came for 45s" in progress_text(msgspec.structs.replace(going, quiet_s=45.0))
    assert start_text(HALF) == ("160 GiB in 46 files; 40.0 GiB of it are here, 120 GiB to come, 900 GiB free in /cache")
    widest = msgspec.structs.replace(
        going, bytes_done=999 * GIB, bytes_total=999 * GIB, quiet_s=8e6, files_done=999, files_total=999
    )
    assert len(progress_text(widest)) <= 78


def test_an_empty_repository_is_all_here() -> None:
    empty = msgspec.structs.replace(HALF, bytes_done=0, bytes_total=0)
    assert empty.fraction == 1
    assert empty.missing_bytes == 0


@pytest.mark.parametrize(
    ("model", "is_one"),
    [
        ("deepseek-ai/DeepSeek-V4-Flash-0731", True),
        ("a/b.c_d-1", True),
        ("generated:tiny", False),
        ("/models/flash", False),
        ("./flash/x", False),
        ("../flash", False),
        ("s3://bucket/flash", False),
        ("owner/name:Q4_K_M", False),
        ("gpt2", False),
    ],
)
def test_names_of_repositories(model: str, is_one: bool) -> None:
    assert is_repository(model) is is_one


SAID = {
    "gated": (
        "Error: Access denied. Model 'a/gated' requires approval.",
        "GatedRepoError 401 401 Client Error. Cannot access gated repo for url http://127.0.0.1/a/resolve/main/x.",
    ),
    "token": ("HfHubHTTPError 401 401 Client Error: Unauthorized. Invalid user token.",),
    "revision": ("RevisionNotFoundError 404 404 Client Error.", "Error: Revision not found in model 'a/good'."),
    "missing": (
        "RepositoryNotFoundError 401 401 Client Error. Repository Not Found for url: http://127.0.0.1/api/models/a/b.",
        "Error: Model 'a/none' not found.",
        "RepositoryNotFoundError 404 Repository Not Found. If you are trying to access a private or gated repo, log in",
    ),
    "refused": ("HfHubHTTPError 403 Client error '403 Forbidden' for url",),
    "disk": ("OSError: [Errno 28] No space left on device", "OSError: [Errno 27] File too large"),
    "permission": ("PermissionError: [Errno 13] Permission denied: '/cache/models--a--b'",),
    "offline": ("OfflineModeIsEnabled  Cannot reach http://x: offline mode is enabled.",),
    "too-many": ("HfHubHTTPError 429 Client error '429 Too Many Requests' for url",),
    "network": (
        "httpx2.RemoteProtocolError: peer closed connection without sending complete message body",
        "ConnectError  [Errno 111] Connection refused",
        "httpx.ConnectError: [Errno -2] Name or service not known",
        "HfHubHTTPError 503 Server error '503 Service Unavailable' for url",
    ),
}


def test_each_reason_is_recognised_by_what_hf_says() -> None:
    assert set(SAID) == {row.id for row in REFUSALS}
    for name, lines in SAID.items():
        for line in lines:
            row = refusal(("some other line", line))
            assert row is not None, line
            assert row.id == name, line
            assert "{" not in row.remedy.format(model="a/b")
    assert refusal(("Everything is fine",)) is None


def test_a_traceback_tells_its_last_line_only() -> None:
    output = (
        "Traceback (most recent call last):",
        '  File "/x/huggingface_hub/file_download.py", line 401, in http_get',
        "    raise OSError from Forbidden",
        "",
        "During handling of the above exception, another exception occurred:",
        "httpx2.RemoteProtocolError: peer closed connection (received 401 bytes, expected 429)",
        "Hint: set HF_DEBUG=1 as environment variable for full traceback.",
    )
    assert telling(output) == (output[-2],)
    row = refusal(telling(output))
    assert row is not None
    assert row.id == "network"
