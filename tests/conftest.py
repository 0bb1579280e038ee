"""What all tests share: an empty cache, one thread, no settings of the user's, and no network."""

import ipaddress
import multiprocessing
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

# No test reads a clock. By default an example that takes 200 ms fails, and so do the first examples if they
# take a second to draw: on a busy machine, reading Unicode's tables for the first one did.
settings.register_profile(
    "no-clock", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all`, which `make test-all` gives."""
    parser.addoption("--all", action="store_true", help="every case, where else a fixed part of them is run")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with slow tests go first, so that no process waits at the end; `exhaustive` tests are skipped."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    if not config.getoption("--all"):
        for item in items:
            if item.get_closest_marker("exhaustive"):
                item.add_marker(pytest.mark.skip(reason="run by make test-all"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One process runs all tests of a file; and all of `reproduce`, which share the pages that they make."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "tests/reproduce" if file.startswith("tests/reproduce/") else file

    return ByFile(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Before torch is imported: it reads the number of threads once."""
    settings.load_profile("no-clock")
    for name in [name for name in os.environ if name.startswith("UNLABEL_")]:
        del os.environ[name]
    os.environ["OMP_NUM_THREADS"] = "1"  # and a fork after more threads have run can hang
    os.environ["UNLABEL_CACHE"] = tempfile.mkdtemp(prefix="unlabel-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(os.environ["UNLABEL_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def every(pytestconfig: pytest.Config) -> Callable[[int], int]:
    """``every(n)`` is the step through a list of cases: n, or 1 under `make test-all`."""
    return lambda step: 1 if pytestconfig.getoption("--all") else step


@pytest.fixture(scope="session", autouse=True)
def one_penalty() -> Iterator[tuple[float, ...]]:
    """Linear probes choose among one penalty: the choice among four takes up to half the time of an audit.

    `every_penalty` gives the four back, for tests of the choice.
    """
    from unlabel.audit.attacks import probes

    every = probes.PENALTIES
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "PENALTIES", (0.1,))
        yield every


@pytest.fixture
def every_penalty(one_penalty: tuple[float, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear probes choose their penalty as they do for a user."""
    from unlabel.audit.attacks import probes

    monkeypatch.setattr(probes, "PENALTIES", one_penalty)


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


@pytest.fixture
def left_running() -> Callable[[], list[int]]:
    """Tells the numbers of this process's children, started by `multiprocessing`, that have not ended.

    `active_children` alone is not enough: it once listed a process that was joined. The number of an ended
    process may also have gone to another one. So the system is asked for the parent and the state.
    """

    def runs_here(number: int) -> bool:
        try:
            # number (name) state parent ...: the name may hold spaces and brackets
            state, parent = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state not in "ZX" and int(parent) == os.getpid()

    return lambda: [
        child.pid for child in multiprocessing.active_children() if child.pid and runs_here(child.pid)
    ]


class Ran(NamedTuple):
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on stdout."""
        return self.out.splitlines()[-1]


Command = Callable[..., Ran]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs ``unlabel ...`` in this process, in a folder of its own; a bug's traceback fails the test."""
    from unlabel.cli.app import main

    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Ran:
        texts = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["unlabel", *texts])
        code = 0
        try:
            main(texts)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        return Ran(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 96 photos of 16 x 16 pixels with the labels top, middle and bottom; only to be read."""
    from unlabel.testing import tiny_world, write_folder

    return write_folder(tmp_path_factory.mktemp("data") / "photos", tiny_world(images=96).source)


@pytest.fixture(scope="session")
def base(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained on `photos` for one epoch; only to be read."""
    from unlabel.core import engine
    from unlabel.core.recipe import Recipe
    from unlabel.training.run import train_run

    out = tmp_path_factory.mktemp("runs") / "base"
    run = engine.start(accelerator="cpu")
    train_run(f"folder:{photos}", out, run, recipe=Recipe(epochs=1), image_size=16)
    return out


@pytest.fixture(scope="session")
def elsewhere() -> Callable[[str], Any]:
    """Worlds with a network of torchvision's, ``vit`` or ``convnext``: normalised by LayerNorm, and trained.

    ``elsewhere("vit")`` is a `World` of one's own; the network is trained once, in two seconds.
    """
    import copy
    from dataclasses import replace
    from functools import cache

    from unlabel.core import engine
    from unlabel.core.recipe import Recipe
    from unlabel.testing import tiny_world
    from unlabel.training.fit import LabelLoss, fit

    @cache
    def trained(name: str) -> Any:
        world = tiny_world()
        model = torchvision_network(name, 3)
        recipe = Recipe(epochs=20, lr=0.1)
        fit(model, LabelLoss((0, 1, 2)), world.data, recipe, engine.start(accelerator="cpu"))
        return replace(world, model=model.eval())

    def own(name: str) -> Any:
        world = trained(name)
        return replace(world, model=copy.deepcopy(world.model))

    return own


def torchvision_network(name: str, outputs: int) -> Any:
    """A tiny vision transformer or ConvNeXt for 16 x 16 images, with seeded weights."""
    import torch
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt
    from torchvision.models.vision_transformer import VisionTransformer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == "vit":
            return VisionTransformer(16, 4, 2, 2, 16, 32, num_classes=outputs)
        blocks = [CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)]
        return ConvNeXt(blocks, stochastic_depth_prob=0.0, num_classes=outputs)


@pytest.fixture
def buildable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets `retrain` and a run folder build the networks of `elsewhere` by name."""
    from unlabel.models import build

    for name in ("vit", "convnext"):
        make = lambda outputs, stem, name=name: torchvision_network(name, outputs)  # noqa: E731
        monkeypatch.setitem(build.BUILDERS, name, make)


BROWSER = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running Chromium of the system. Without one: skipped, but failed where CI is set."""
    path = os.environ.get("UNLABEL_CHROMIUM") or shutil.which("chromium")
    if path is None:
        reason = "no Chromium; install Debian's package chromium, or name the program in UNLABEL_CHROMIUM"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=[*BROWSER, "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture
def window(chromium: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a page's text offline, ``window(text, width, scheme)``; any request or console error fails."""
    contexts, troubles = [], []

    def open_page(text: str, width: int = 1280, scheme: str = "light") -> Any:
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8")
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        own = path.as_uri()
        page.on(
            "request", lambda r: None if r.url == own or r.url.startswith("data:") else troubles.append(r.url)
        )
        page.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: troubles.append(str(e)))
        page.goto(own)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


BOXES = """selector => [...document.querySelectorAll(selector)].map(e => {
  const b = e.getBoundingClientRect();
  return {text: e.innerText, left: b.left, right: b.right, width: b.width, height: b.height};
})"""


@pytest.fixture(scope="session")
def readable() -> Callable[[Any, int, str], None]:
    """Asserts that nothing sticks out of a page, that what a selector finds has a size, and legible text."""
    measure = (Path(__file__).parent / "texts.js").read_text("utf-8")

    def check(page: Any, width: int, selector: str) -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        boxes = page.evaluate(BOXES, selector)
        assert boxes
        for box in boxes:
            assert box["left"] >= 0, box
            assert box["right"] <= width, box
            assert box["width"] > 8, box
            assert box["height"] > 8, box
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        texts = page.evaluate(measure)
        assert texts["smallest"]["size"] >= 11, texts["smallest"]
        assert texts["faintest"]["contrast"] >= 4.5, texts["faintest"]
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    return check


@pytest.fixture
def open_up() -> Callable[[Path], None]:
    """Lets other users pass through a test's folder and pytest's folders above it, and no other."""

    def change(folder: Path) -> None:
        for part in (folder, *folder.parents):
            if not part.name.startswith(("pytest-", "popen-")) and part != folder:
                return
            part.chmod(0o755)

    return change
