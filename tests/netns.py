"""Two machines for a test: network namespaces with addresses, an `sshd`, a home and XDG directories of their own.

They share this machine's file system and processes, and nothing of its network: each reaches the other and the
operator, who is where the test runs, over a bridge. A packet filter cuts any two of them off from each other.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.process.fake_world import install_fake, write_vllm
from tests.sshd import Sshd, need_sshd

__all__ = ["Machine", "Machines", "need_namespaces"]

PREFIX_MIN, PREFIX_MAX = 1, 250
MASTER_PORT = 29501
CLONE_NEWNET = 0x40000000
"""Of linux/sched.h."""


def need_namespaces() -> None:
    """Skip the test where network namespaces, a packet filter or sshd are missing."""
    need_sshd()
    if os.getuid() != 0:
        pytest.skip("network namespaces need root")
    for program in ("ip", "nft"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (apt-get install iproute2 nftables)")
    needed = "ip link add b0 type bridge && ip link add v0 type veth peer name v1 && nft add table inet t"
    probe = subprocess.run(["unshare", "--net", "sh", "-c", needed], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"no network of its own can be made here: {probe.stderr.strip()}")


def run(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done


class Machine:
    """One of them.

    Args:
        root: for its files.
        name: what SSH calls it.
        namespace: of its network.
        address: in it.
        data_home: engines and models, its own or shared ones; `None` installs the scripted server.
    """

    def __init__(self, root: Path, name: str, namespace: str, address: str, data_home: Path | None) -> None:
        self.root = root / name
        self.name = name
        self.namespace = namespace
        self.address = address
        self.bin = self.root / "bin"
        self.bin.mkdir(parents=True)
        self._settings = self.root / "fake.env"
        self._settings.write_text("", encoding="utf-8")
        console = self.bin / "dsv4-console"
        console.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m console "$@"\n', encoding="utf-8")
        console.chmod(0o755)
        self.env = {
            "HOME": str(self.root),
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "XDG_CONFIG_HOME": str(self.root / "config"),
            "XDG_STATE_HOME": str(self.root / "state"),
            "XDG_DATA_HOME": str(data_home or self.root / "data"),
            "LANG": "C.UTF-8",
        }
        if data_home is None:
            folder = install_fake(self.root / "data")
            wrapper = write_vllm(folder / "bin" / "vllm")
            plain = wrapper.with_name("vllm-plain")
            wrapper.rename(plain)
            wrapper.write_text(f'#!/bin/sh\nset -a; . "{self._settings}"; exec "{plain}" "$@"\n', encoding="utf-8")
            wrapper.chmod(0o755)
        self.sshd: Sshd | None = None

    @property
    def runs(self) -> Path:
        """Where its runs are."""
        return self.root / "state" / "dsv4-console" / "runs"

    def fake(self, **settings: object) -> None:
        """Steer scripted servers that are started there from now on."""
        lines = [f"FAKE_VLLM_{name.upper()}='{value}'\n" for name, value in settings.items()]
        self._settings.write_text("".join(lines), encoding="utf-8")

    def enter(self, *words: str) -> list[str]:
        """A command in its network."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def join(self) -> None:
        """Put the thread that calls this into its network, for good."""
        with Path(f"/run/netns/{self.namespace}").open("rb") as network:
            if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {self.namespace}")

    def get(self, url: str) -> int:
        """Ask for this from there; gives the HTTP status."""

        def ask() -> int:
            self.join()
            return httpx.get(url, timeout=30.0, trust_env=False).status_code

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(ask).result()

    def start_sshd(self) -> None:
        """Let the operator in."""
        self.sshd = Sshd(self.root / "sshd", self.env, host=self.name, address=self.address, enter=self.enter())

    def cut(self, *others: str) -> None:
        """Drop every packet to and from these addresses."""
        self.restore()
        run(*self.enter("nft", "add", "table", "inet", "cut"))
        for hook, side in (("input", "saddr"), ("output", "daddr")):
            run(*self.enter("nft", f"add chain inet cut {hook} {{ type filter hook {hook} priority 0; }}"))
            run(*self.enter("nft", f"add rule inet cut {hook} ip {side} {{ {', '.join(others)} }} drop"))

    def restore(self) -> None:
        """Let everything through again."""
        run(*self.enter("nft", "delete", "table", "inet", "cut"), check=False)


class Machines:
    """Both, and the operator's address. Use as a context: afterwards nothing of them is left."""

    def __init__(self, root: Path, data_home: Path | None = None) -> None:
        self._root = root
        self._data_home = data_home
        self._tag = f"d{os.getpid() % 1_000_000}"
        self._namespaces = (f"{self._tag}a", f"{self._tag}b")
        self._bridge = f"{self._tag}br"
        self.operator = ""
        self.all: tuple[Machine, ...] = ()
        self.config = root / "ssh_config"

    def __enter__(self) -> Machines:
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self) -> None:
        taken = run("ip", "-o", "-4", "addr").stdout
        start = os.getpid() % PREFIX_MAX
        numbers = ((start + step) % PREFIX_MAX + PREFIX_MIN for step in range(PREFIX_MAX))
        prefix = next(f"10.77.{number}" for number in numbers if f"10.77.{number}." not in taken)
        self.operator = f"{prefix}.254"
        run("ip", "link", "add", self._bridge, "type", "bridge")
        run("ip", "addr", "add", f"{self.operator}/24", "dev", self._bridge)
        run("ip", "link", "set", self._bridge, "up")
        made = []
        for number, namespace in enumerate(self._namespaces, 1):
            inside = ["ip", "netns", "exec", namespace]
            run("ip", "netns", "add", namespace)
            run("ip", "link", "add", f"{namespace}o", "type", "veth", "peer", "name", "eth0", "netns", namespace)
            run("ip", "link", "set", f"{namespace}o", "master", self._bridge, "up")
            run(*inside, "ip", "addr", "add", f"{prefix}.{number}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                run(*inside, "ip", "link", "set", device, "up")
            made.append(
                Machine(self._root, f"node-{'ab'[number - 1]}", namespace, f"{prefix}.{number}", self._data_home)
            )
        self.all = tuple(made)
        text = ""
        for machine in self.all:
            machine.start_sshd()
            assert machine.sshd is not None
            text += machine.sshd.config.read_text(encoding="utf-8")
        self.config.write_text(text, encoding="utf-8")

    def close(self) -> None:
        """Remove everything, as far as it was made."""
        for machine in self.all:
            if machine.sshd is not None:
                with contextlib.suppress(OSError):
                    machine.sshd.stop()
        for namespace in self._namespaces:
            run("ip", "netns", "del", namespace, check=False)
            run("ip", "link", "del", f"{namespace}o", check=False)
        run("ip", "link", "del", self._bridge, check=False)
