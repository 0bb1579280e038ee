"""What all tests share: an empty cache, one thread, no settings of the user's, and no network."""

import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Before torch is imported: it reads the number of threads once."""
    for name in [name for name in os.environ if name.startswith("UNLABEL_")]:
        del os.environ[name]
    os.environ["OMP_NUM_THREADS"] = "1"  # and a fork after more threads have run can hang
    os.environ["UNLABEL_CACHE"] = tempfile.mkdtemp(prefix="unlabel-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(os.environ["UNLABEL_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Refuses to connect to anything but this machine."""
    connect = socket.socket.connect

    def local(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            assert host == "localhost" or ipaddress.ip_address(host).is_loopback, f"a test connects to {host}"
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", local)
        yield
