"""Where weights are found, and what a person reads when they are not.

The download tests talk to a small HTTP server that answers as the Hugging Face Hub does; the client
is `huggingface_hub` itself, in a process of its own because it reads its address when imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pixcell_share import __version__
from pixcell_share.errors import WeightsMissingError
from pixcell_share.weights import digest_files, find_local, locate

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = b"these are the weights"
PATTERNS = ["model.safetensors", "transformer/*.safetensors"]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"a connection was attempted: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face cache with one snapshot of ``lab/model``."""
    snapshot = tmp_path / "hub" / "models--lab--model" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(WEIGHTS)
    refs = tmp_path / "hub" / "models--lab--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return snapshot


@pytest.mark.usefixtures("no_network")
def test_a_folder_or_a_file_in_it_is_local(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "diffusion.safetensors").write_bytes(WEIGHTS)
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    for given in (tmp_path, tmp_path / "model.safetensors"):
        located = locate(str(given), patterns=PATTERNS)
        assert (located.folder, located.source, located.revision) == (tmp_path, "local", "local")


@pytest.mark.usefixtures("no_network")
def test_the_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert locate(f"~/{tmp_path.name}", patterns=PATTERNS).folder == tmp_path


@pytest.mark.usefixtures("no_network")
def test_the_cache_gives_the_commit(cache: Path) -> None:
    located = locate("lab/model", patterns=PATTERNS)
    assert (located.folder, located.source, located.revision) == (cache, "lab/model", COMMIT)
    by_path = locate(str(cache), patterns=PATTERNS)
    assert (by_path.source, by_path.revision) == ("lab/model", COMMIT)


@pytest.mark.usefixtures("no_network", "cache")
def test_a_cached_copy_without_a_required_file_is_not_found() -> None:
    assert find_local("lab/model", patterns=PATTERNS) is not None
    assert find_local("lab/model", patterns=PATTERNS, required=["config.json"]) is None
    assert find_local("lab/another", patterns=PATTERNS) is None


@pytest.mark.usefixtures("no_network")
def test_the_package_names_itself_and_its_version() -> None:
    import pixcell_share

    located = locate(str(Path(pixcell_share.__file__).parent), patterns=["py.typed"])
    assert (located.source, located.revision) == ("pixcell-share package", __version__)


@pytest.mark.usefixtures("no_network", "cache")
def test_offline_says_so_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsMissingError, match="HF_HUB_OFFLINE") as caught:
        locate("lab/another", patterns=PATTERNS)
    for pointer in ("https://huggingface.co/lab/another", "HF_TOKEN", "--weights"):
        assert pointer in caught.value.remedy


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("given", ["/no/such/folder", "./weights", "weights", "a/b/c"])
def test_what_is_no_repository_is_never_asked_for(given: str) -> None:
    with pytest.raises(WeightsMissingError, match="neither a folder"):
        locate(given, patterns=PATTERNS)


@pytest.mark.usefixtures("no_network")
def test_a_folder_that_lacks_files_names_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=r"model\.safetensors") as caught:
        locate(str(tmp_path), patterns=PATTERNS, page="https://example.org/model")
    assert "https://example.org/model" in caught.value.remedy


def test_digests(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "model.bin", tmp_path / "b.bin"
    first.parent.mkdir()
    first.write_bytes(WEIGHTS)
    second.write_bytes(b"more")
    assert digest_files([first]) == hashlib.sha256(WEIGHTS).hexdigest()
    both = digest_files([first, second])
    assert both == digest_files([second, first])
    assert both not in (digest_files([first]), digest_files([second]))
    first.rename(tmp_path / "model.bin")
    assert digest_files([tmp_path / "model.bin", second]) == both


class _Hub(BaseHTTPRequestHandler):
    """Answers for one open repository, one gated, and one that is broken; notes what is asked."""

    asked: list[tuple[str, str, str]]

    def do_GET(self) -> None:
        self.asked.append(
            (self.path, self.headers["authorization"] or "", self.headers["user-agent"])
        )
        path = self.path.partition("?")[0]
        if "lab/broken" in path:
            return self._answer(500, b"{}")
        if "lab/gated" in path and self.headers["authorization"] != "Bearer accepted":
            return self._answer(401 if not self.headers["authorization"] else 403, b"", "GatedRepo")
        if "lab/gated" not in path and "lab/open" not in path:
            return self._answer(404, b"", "RepoNotFound")
        if "/tree/" in path:
            return self._json([_entry("model.safetensors", WEIGHTS), _entry("README.md", b"hello")])
        if path.endswith("/model.safetensors"):
            return self._answer(200, WEIGHTS)
        return self._json({"id": "lab/open", "sha": COMMIT, "siblings": []})

    do_HEAD = do_GET  # noqa: N815

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode())

    def _answer(self, status: int, body: bytes, code: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def _entry(path: str, body: bytes) -> dict[str, object]:
    oid = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
    return {"type": "file", "path": path, "size": len(body), "oid": oid}


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    _Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


SCRIPT = """
import huggingface_hub.constants  # as timm does: it reads the telemetry variable right here
import json, sys
from pixcell_share.errors import WeightsError
from pixcell_share.weights import locate
try:
    found = locate(sys.argv[1], patterns=["model.safetensors"])
    body = (found.folder / "model.safetensors").read_text()
    names = sorted(path.name for path in found.folder.iterdir())
    print(json.dumps([found.source, found.revision, body, names]))
except WeightsError as error:
    print(json.dumps(error.diagnostics()))
"""


def ask(port: int, repo: str, home: Path, token: str = "") -> object:
    """What `locate` gives in a new process whose Hub is the server on ``port``."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(home)}
    environment |= {"HF_TOKEN": token} if token else {}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, repo],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(result.stdout)


def test_a_download_takes_what_was_asked_for_and_then_the_cache_serves(hub, tmp_path) -> None:
    expected = ["lab/open", COMMIT, WEIGHTS.decode(), ["model.safetensors"]]
    assert ask(hub.server_port, "lab/open", tmp_path) == expected
    assert not any("README" in path for path, _, _ in _Hub.asked)
    assert not any("telemetry" in path for path, _, _ in _Hub.asked)
    assert not any("torch/" in agent for _, _, agent in _Hub.asked)  # what telemetry would add
    _Hub.asked.clear()
    assert ask(hub.server_port, "lab/open", tmp_path) == expected
    assert _Hub.asked == []


@pytest.mark.parametrize("token", ["", "refused"])
def test_gated_names_page_token_and_option(hub, tmp_path, token: str) -> None:
    answer = ask(hub.server_port, "lab/gated", tmp_path, token)
    assert answer["code"] == "weights_gated"
    for pointer in ("https://huggingface.co/lab/gated", "HF_TOKEN", "--weights"):
        assert pointer in answer["remedy"]


def test_gated_opens_with_the_token(hub, tmp_path) -> None:
    source, *_ = ask(hub.server_port, "lab/gated", tmp_path, "accepted")
    assert source == "lab/gated"


@pytest.mark.parametrize("repo", ["lab/none", "lab/broken"])
def test_other_failures_are_missing_weights(hub, tmp_path, repo: str) -> None:
    answer = ask(hub.server_port, repo, tmp_path)
    assert answer["code"] == "weights_missing"
    assert repo in answer["cause"]


def test_an_unreachable_hub_is_missing_weights(hub, tmp_path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        answer = ask(unused.getsockname()[1], "lab/open", tmp_path)
    assert answer["code"] == "weights_missing"
    assert "--weights" in answer["remedy"]
