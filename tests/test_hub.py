"""A fit in a folder, and on a server of this machine that answers as the Hugging Face Hub does."""

import base64
import dataclasses
import hashlib
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import PIL.Image
import pytest
import torch
from conftest import quick_fit

from glico_augment import FileFormatError, GLICOAugment
from glico_augment.hub import CARD, FILE, PICTURE, local_path, model_card

NAME = "somebody/photos"
TOKEN = "hf_secret"


class Hub(ThreadingHTTPServer):
    """Repositories as branches of files, in memory."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.private: dict[str, bool] = {}
        self.branches: dict[tuple[str, str], dict[str, bytes]] = {}
        self.tokens: set[str | None] = set()


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *arguments) -> None:
        pass

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self) -> None:
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if found is None:
            return self.answer(404)
        self.server.tokens.add(self.headers.get("Authorization"))
        name, revision, file = found.groups()
        if name not in self.server.private:
            return self.answer(404, X_Error_Code="RepoNotFound")
        branch = self.server.branches.get((name, revision))
        if branch is None:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        if file not in branch:
            return self.answer(404, X_Error_Code="EntryNotFound")
        digest = hashlib.sha1(branch[file]).hexdigest()
        commit = hashlib.sha1(repr(sorted(branch.items())).encode()).hexdigest()
        return self.answer(200, branch[file], ETag=f'"{digest}"', X_Repo_Commit=commit)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.server.tokens.add(self.headers.get("Authorization"))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if self.path == "/api/validate-yaml":
            return self.answer(200, json.dumps({"errors": [], "warnings": []}).encode())
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if name in self.server.private:
                return self.answer(409, json.dumps({"url": f"{self.server.address}/{name}"}).encode())
            self.server.private[name] = asked.get("private") or asked.get("visibility") == "private"
            self.server.branches[name, "main"] = {}
            return self.answer(200, json.dumps({"url": f"{self.server.address}/{name}"}).encode())
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/([^/?]+)(\?.*)?", self.path)
        assert found is not None, self.path
        name, action, revision, _ = found.groups()
        if action == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, json.dumps({"files": files}).encode())
        for line in body.decode().splitlines():
            operation = json.loads(line)
            if operation["key"] == "file":
                content = base64.b64decode(operation["value"]["content"])
                self.server.branches[name, revision][operation["value"]["path"]] = content
        commit = {"commitUrl": f"{self.server.address}/{name}/commit/1", "commitOid": "1" * 40, "hookOutput": ""}
        return self.answer(200, json.dumps(commit).encode())


def hub_modules():
    return [name for name in sys.modules if name.split(".")[0] == "huggingface_hub"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server, and ``huggingface_hub`` imported anew, since that is when it reads where the Hub is."""
    pytest.importorskip("huggingface_hub")
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    settings = {
        "HF_ENDPOINT": server.address,
        "HF_HOME": str(tmp_path_factory.mktemp("home")),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        for name in hub_modules():
            monkeypatch.delitem(sys.modules, name)
        yield server
        for name in hub_modules():  # so that tests of other files find those that were imported before, and no others
            del sys.modules[name]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hub(server):
    server.private.clear()
    server.branches.clear()
    server.tokens.clear()
    return server


def same(first: GLICOAugment, second: GLICOAugment) -> bool:
    return torch.equal(first.reconstruct(), second.reconstruct()) and first.swap == second.swap


def test_a_folder_keeps_a_fit(augment, tmp_path):
    augment.max_ratio = 0.3
    folder = augment.save_pretrained(tmp_path / "new" / "photos")
    assert folder == tmp_path / "new" / "photos"
    assert sorted(path.name for path in folder.iterdir()) == [CARD, FILE, PICTURE]
    assert same(GLICOAugment.from_pretrained(folder), augment)
    assert same(GLICOAugment.from_pretrained(str(folder)), augment)
    with PIL.Image.open(folder / PICTURE) as image:
        assert image.size == (8 * 5 * 11 + 5, 3 * 5 * 13 + 5)


def test_options_of_load_go_through(augment, tmp_path):
    def getter(sample):
        return sample["y"]

    folder = augment.save_pretrained(tmp_path / "photos")
    assert GLICOAugment.from_pretrained(folder, labels_getter=getter).layout.labels_getter is getter


def test_a_card_that_somebody_wrote_stays(augment, tmp_path):
    (tmp_path / CARD).write_text("mine")
    augment.save_pretrained(tmp_path)
    assert (tmp_path / CARD).read_text() == "mine"


def test_the_card_says_what_the_fit_is(augment):
    card = model_card(augment)
    for fact in ("8 labelled images of 3 classes", f"{augment.quality.r2:.3f}", "holds the training images"):
        assert fact in card
    assert augment.record.fingerprint in card
    assert "12 × 10 pixels" in card
    assert f"]({PICTURE})" in card
    assert "from_pretrained" in card
    for r2, is_said in ((0.3, True), (0.9, False)):
        quality = dataclasses.replace(augment.quality, r2=r2)
        augment.record = dataclasses.replace(augment.record, quality=quality)
        assert ("has not learned" in model_card(augment)) is is_said


def test_the_card_of_a_fit_without_labels_says_so(images):
    card = model_card(quick_fit(images, epochs=1))
    assert "learned from 8 images without labels and from nothing else" in card
    assert "labelled images" not in card
    assert "class" not in card.replace("classifier", "").replace("classification", "").replace("n_per_class", "")


def test_the_card_counts_unlabelled_images(dataset, images):
    card = model_card(quick_fit(dataset, epochs=1, unlabeled=images[:3]))
    assert "8 labelled images of 3 classes, and 3 unlabelled ones" in card


def test_the_names_of_classes_are_text_in_the_card(augment):
    markdown_it = pytest.importorskip("markdown_it")
    names = ("[x](http://evil) | *b* `c`", "<img src=x>\n\n# Title", "&amp; https://x.y a@b.c ~~d~~")
    augment.record = dataclasses.replace(augment.record, class_names=names)
    tokens = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).parse(model_card(augment).split("---", 2)[2])
    cells = [following for token, following in pairwise(tokens) if token.type == "td_open"]
    shown = ["".join(child.content for child in cell.children) for cell in cells]
    assert all({child.type for child in cell.children} <= {"text", "text_special"} for cell in cells)
    for name in names:
        assert " ".join(name.split()) in shown


def test_a_name_that_is_no_text_does_not_keep_the_card_from_being_written(augment, tmp_path):
    augment.record = dataclasses.replace(augment.record, class_names=("caf\udce9", "b", "c"))
    assert "| caf? |" in (augment.save_pretrained(tmp_path) / CARD).read_text(encoding="utf-8")


def test_a_card_of_many_classes_names_some(augment):
    augment.record = dataclasses.replace(
        augment.record,
        class_names=tuple(f"c{number}" for number in range(60)),
        quality=dataclasses.replace(augment.quality, per_class=(0.5,) * 60),
    )
    augment.codes.classes = augment.codes.class_indices = torch.arange(60)
    card = model_card(augment)
    assert "| c49 |" in card
    assert "| c50 |" not in card
    assert "and 10 more classes." in card


@pytest.mark.ecosystem(
    "Hugging Face Hub", needs="huggingface_hub", shows="`push_to_hub`, `from_pretrained` and `load` with a local server"
)
def test_a_fit_goes_to_the_hub_and_comes_back(augment, hub):
    address = augment.push_to_hub(NAME)
    assert address == f"{hub.address}/{NAME}/commit/1"
    assert hub.private == {NAME: True}
    files = hub.branches[NAME, "main"]
    assert sorted(files) == [CARD, FILE, PICTURE]
    assert f'from_pretrained("{NAME}")' in files[CARD].decode()
    assert same(GLICOAugment.from_pretrained(NAME), augment)
    assert same(GLICOAugment.load(f"hf://{NAME}/{FILE}"), augment)
    assert hub.tokens == {f"Bearer {TOKEN}"}


def test_a_card_on_the_hub_stays_and_the_fit_is_replaced(augment, hub):
    augment.push_to_hub(NAME, private=False)
    assert hub.private == {NAME: False}
    hub.branches[NAME, "main"][CARD] = b"mine"
    augment.max_ratio = 0.1
    augment.push_to_hub(NAME)
    assert hub.branches[NAME, "main"][CARD] == b"mine"
    assert GLICOAugment.from_pretrained(NAME).max_ratio == 0.1


def test_a_revision_is_the_one_asked_for(augment, hub, tmp_path):
    augment.push_to_hub(NAME)
    hub.branches[NAME, "v1"] = {}
    augment.max_ratio = 0.1
    augment.push_to_hub(NAME, revision="v1")
    options = {"cache_dir": tmp_path / "other"}
    assert GLICOAugment.from_pretrained(NAME, revision="v1", **options).max_ratio == 0.1
    assert GLICOAugment.load(f"hf://{NAME}@v1/{FILE}").max_ratio == 0.1
    assert GLICOAugment.from_pretrained(NAME, **options).max_ratio == 0.4
    assert (tmp_path / "other").is_dir()


def test_what_the_hub_does_not_have_is_said(augment, hub):
    with pytest.raises(OSError, match="somebody/nothing"):
        GLICOAugment.from_pretrained("somebody/nothing")
    augment.push_to_hub(NAME)
    with pytest.raises(OSError, match="v9"):
        GLICOAugment.from_pretrained(NAME, revision="v9")
    hub.branches[NAME, "main"][FILE] = b"PK\x03\x04 and so on"
    with pytest.raises(FileFormatError, match="not unpickled"):
        GLICOAugment.from_pretrained(NAME)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda augment, folder: GLICOAugment.from_pretrained("a/b/c"), FileNotFoundError, "a/b/c is neither a folder"),
        (lambda augment, folder: GLICOAugment.from_pretrained("./nothing/"), FileNotFoundError, "neither a folder"),
        (lambda augment, folder: GLICOAugment.from_pretrained(folder), FileNotFoundError, FILE),
        (lambda augment, folder: GLICOAugment.from_pretrained(folder, revision="v1"), ValueError, "has no revision"),
        (lambda augment, folder: GLICOAugment.load("hf://photos"), ValueError, "expected hf://user/name/file"),
        (lambda augment, folder: augment.push_to_hub("photos"), ValueError, "got 'photos'"),
        (lambda augment, folder: augment.push_to_hub("https://x.y/a/b"), ValueError, "user/name"),
    ],
)
def test_a_wrong_name_is_told_before_anything_is_sent(call, error, message, augment, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=message):
        call(augment, tmp_path / "empty")


def test_without_huggingface_hub_the_extra_is_named(augment, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (
        lambda: augment.push_to_hub(NAME),
        lambda: GLICOAugment.from_pretrained(NAME),
        lambda: GLICOAugment.load(f"hf://{NAME}/{FILE}"),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'glico-augment\[hub\]'"):
            call()
    assert same(GLICOAugment.from_pretrained(augment.save_pretrained(tmp_path / "photos")), augment)


def test_other_paths_stay_as_they_are(tmp_path):
    assert local_path(tmp_path) is tmp_path
    assert local_path("photos.safetensors") == "photos.safetensors"
