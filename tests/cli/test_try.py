"""``unlabel try``: its page over HTTP, what it refuses, what it leaves behind, and it in Chromium."""

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unlabel.cli import try_page
from unlabel.cli.try_models import pages_of
from unlabel.cli.try_page import Pages, Server
from unlabel.core import engine
from unlabel.core.recipe import Recipe
from unlabel.exchange.side_by_side import Answers, answers, models_to_try
from unlabel.forget.run import forget_run
from unlabel.runs.record import source_of
from unlabel.training.run import train_run

Ask = Callable[..., tuple[int, str, Any]]


@pytest.fixture(scope="module")
def runs(photos: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`less`, which forgot top, and `retrained` without it; the original is `base`."""
    folder, where = tmp_path_factory.mktemp("try"), engine.start(accelerator="cpu")
    forget_run("head-removal", base, ["top"], folder / "less", where, images=48)
    recipe = Recipe(epochs=1)
    place = where.with_seed(1)
    train_run(f"folder:{photos}", folder / "retrained", place, recipe=recipe, image_size=16, without="top")
    return folder


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[Server]:
    """The server of the three runs."""
    models = models_to_try(runs / "less", None, runs / "retrained")
    run = models["unlearned"]
    pictures = source_of(run.config, run.record, None, skip_bad=False, run=engine.start()).test
    with Server(pages_of(models, pictures), 0) as found:
        thread = Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def ask(server: Server) -> Ask:
    """Sends a request as it stands: status, text and headers of the answer."""

    def call(method: str = "GET", path: str = "", body: bytes = b"", **headers: str) -> tuple[int, str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        connection.putrequest(method, path or f"/{server.pages.word}/", skip_host=True)
        sent = {"Host": f"127.0.0.1:{server.server_port}"}
        if body:
            sent["Content-Length"] = str(len(body))
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in sent.items():
            if value:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers

    return call


def form(content: bytes, name: str = "picture") -> dict[str, Any]:
    """A form with one file, as a browser sends it."""
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\n'
    body = head.encode() + b"Content-Type: image/png\r\n\r\n" + content + b"\r\n--x--\r\n"
    return {"method": "POST", "body": body, "Content_Type": "multipart/form-data; boundary=x"}


def png(shade: int = 90, size: tuple[int, int] = (40, 30)) -> bytes:
    """A grey picture."""
    file = io.BytesIO()
    Image.new("RGB", size, (shade, 20, 200)).save(file, "PNG")
    return file.getvalue()


def table(page: str) -> dict[str, list[str]]:
    """The rows of the page's table: label, then its cells as text."""
    body = page.split("<tbody>")[1].split("</tbody>")[0]
    rows = {}
    for row in body.split("</tr>")[:-1]:
        cells = [re.sub(r"<[^>]*>", " ", cell).split() for cell in re.split(r"</t[hd]>", row)[:-1]]
        rows[cells[0][0]] = [" ".join(cell) for cell in cells[1:]]
    return rows


def test_a_drawing_is_answered_by_all_three(server: Server, runs: Path) -> None:
    with urllib.request.urlopen(f"{server.address}?drawing=3", timeout=60) as answer:
        page = answer.read().decode()
    rows = table(page)
    assert list(rows) == ["top", "middle", "bottom"]
    assert rows["top"][2:] == ["no answer", "no answer"]
    assert "<script" not in page
    assert "drawing=4" in page
    assert "http" not in page.replace(server.address, "")
    models = models_to_try(runs / "less", None, runs / "retrained")
    run = models["unlearned"]
    test = source_of(run.config, run.record, None, skip_bad=False, run=engine.start()).test
    expected = answers(models, test.images(np.array([3]))[0])
    for row in expected:
        shown = [f"{value:.2f}" if value is not None else "no answer" for value in row.by_model.values()]
        assert rows[row.label][1:] == shown
    kinds = {1: "yes", 0: "no"}
    assert [rows[name][0] for name in test.labels] == [kinds[int(value)] for value in test.target[3]]


def test_drawings_go_round(ask: Ask, server: Server) -> None:
    pages = [ask(path=f"/{server.pages.word}/?drawing={number}")[1] for number in (0, 24, 25)]
    assert "Picture 1 of 24" in pages[0]
    assert "Picture 1 of 24" in pages[1]
    assert "Picture 2 of 24" in pages[2]


def test_one_s_own_picture_is_decoded_as_in_training(ask: Ask, runs: Path) -> None:
    status, page, headers = ask(**form(png()))
    assert status == 200
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    (row,) = [
        row for row in answers(models_to_try(runs / "less", None, None), png()) if row.label == "middle"
    ]
    assert table(page)["middle"][0] == f"{row.by_model['original']:.2f}"
    assert table(page)["top"][1:] == ["no answer", "no answer"]


@pytest.mark.parametrize("content", [b"GIF89a", b"no picture", png()[:60], png(size=(9000, 9000))])
def test_a_file_that_is_no_picture_is_told_and_not_shown(content: bytes, ask: Ask) -> None:
    status, page, _ = ask(**form(content))
    assert status == 200
    assert "This file cannot be used: " in page
    assert "<tbody>" not in page


REFUSED: dict[str, tuple[dict[str, Any], int]] = {
    "another host": ({"Host": "evil.example"}, 421),
    "another port": ({"Host": "127.0.0.1:1"}, 421),
    "no host": ({"Host": ""}, 421),
    "no word": ({"path": "/"}, 404),
    "another word": ({"path": f"/{'x' * 32}/"}, 404),
    "a path": ({"path": "/../../etc/passwd"}, 404),
    "letters that are none": ({"path": "/%00%ff/"}, 404),
    "another page": ({**form(png()), "Origin": "http://evil.example"}, 403),
    "a hidden page": ({**form(png()), "Origin": "null"}, 403),
    "no length": ({"method": "POST", "Content_Type": "multipart/form-data; boundary=x"}, 411),
    "too long": ({**form(png()), "Content_Length": "20000001"}, 413),
    "far too long": ({**form(png()), "Content_Length": "9" * 400}, 413),
    "a length below zero": ({**form(png()), "Content_Length": "-1"}, 411),
    "no form": ({**form(png()), "Content_Type": "application/json"}, 415),
    "no boundary": ({**form(png()), "Content_Type": "multipart/form-data"}, 400),
    "no file": (form(b""), 400),
    "another field": (form(png(), "other"), 400),
    "another method": ({"method": "PUT"}, 501),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_of_its_own_page_is_refused(name: str, ask: Ask) -> None:
    words, expected = REFUSED[name]
    status, text, _ = ask(**words)
    assert status == expected
    assert "middle" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize("number", ["-1", "x", "1e9", "9" * 10, "٣", "1&drawing=2"])
def test_a_number_that_is_none_is_refused(number: str, ask: Ask, server: Server) -> None:
    status, text, _ = ask(path=f"/{server.pages.word}/?drawing={urllib.request.quote(number, safe='&=')}")
    assert status == 400
    assert "whole number" in text


def test_only_this_machine_is_listened_to_and_the_word_is_long(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert len(server.pages.word) >= 32
    words = {Pages(lambda number: "", lambda content: "").word for _ in range(20)}
    assert len(words) == 20


def test_a_body_that_never_comes_ends_alone(server: Server, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.setattr(try_page.Handler, "timeout", 0.2)
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.putrequest("POST", f"/{server.pages.word}/")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.getresponse()
    with urllib.request.urlopen(server.address, timeout=60) as answer:
        assert answer.status == 200
    assert capfd.readouterr() == ("", "")


def test_labels_that_hold_markup_are_text() -> None:
    from unlabel.report.page import environment

    name = "<script>alert(1)</script>"
    page = environment().get_template("try.html").render(
        titles=["unlearned"], forgotten=[name], network="small", place="", image=None, trouble=name,
        said=name, next=1, present={name: name}, drawings=True,
        rows=[Answers(name, True, {"unlearned": 0.5})],
    )  # fmt: skip
    assert "<script" not in page


def test_what_does_not_fit_is_one_line(command, runs: Path, tmp_path: Path) -> None:
    for words, says in (
        ((tmp_path / "gone",), "gone"),
        ((runs / "less", "--port", 70_000), "expected 0 to 65535"),
        ((runs / "less", "--before", tmp_path / "gone"), "gone"),
        ((runs / "less", "--data", "folder:gone"), "gone"),
    ):
        ran = command("try", *words)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran
        assert says in ran.err


def listens_to_ctrl_c() -> None:
    """In the new process: a shell's background jobs ignore Ctrl-C, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_the_command_prints_its_address_keeps_nothing_and_ends_by_ctrl_c(runs: Path, tmp_path: Path) -> None:
    """A process of its own: what it printed, and every file below its folders before and after."""
    environment = {**os.environ, "UNLABEL_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    words = [
        sys.executable,
        "-m",
        "unlabel",
        "try",
        runs / "less",
        "--reference",
        runs / "retrained",
        "--json",
    ]
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=listens_to_ctrl_c,
    ) as process:
        assert process.stdout
        address = json.loads(process.stdout.readline())["address"]
        before = sorted([*tmp_path.rglob("*"), *runs.rglob("*")])
        words_of_form = form(png())
        request = urllib.request.Request(
            address, words_of_form["body"], {"Content-Type": words_of_form["Content_Type"]}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert "middle" in answer.read().decode()
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(address[:-9], timeout=60)
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out) == (0, "")
    assert err.splitlines()[-2:] == ["open this address in a browser; Ctrl-C ends it", "ended"]
    assert sorted([*tmp_path.rglob("*"), *runs.rglob("*")]) == before


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_in_chromium(
    chromium: Any, readable: Callable[..., None], server: Server, width: int, scheme: str, tmp_path: Path
) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, troubles, asked = context.new_page(), [], []
    page.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
    page.on("request", lambda r: asked.append(r.url) if not r.url.startswith("data:") else None)
    page.goto(server.address)
    assert page.locator("tbody tr").count() == 3
    assert page.locator("img").evaluate("e => e.naturalWidth") == 16
    first = page.locator("main p").first.inner_text()
    page.get_by_text("Next picture").click()
    assert page.locator("main p").first.inner_text() != first
    (tmp_path / "a.png").write_bytes(png())
    page.locator("input").set_input_files(tmp_path / "a.png")
    page.locator("button").click()
    assert "Your own picture, as the models see it." in page.locator("main p").first.inner_text()
    assert page.locator("tbody tr.gone").count() == 1
    readable(page, width, "td.n, button, .next, img")
    if folder := os.environ.get("TRY_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/try-{width}-{scheme}.png", full_page=True)
    assert troubles == []
    assert all(address.startswith(server.address) for address in asked)
    context.close()
