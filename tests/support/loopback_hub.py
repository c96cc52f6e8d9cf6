"""A small Hugging Face hub on 127.0.0.1 for the real clients: huggingface_hub, transformers, datasets, SAELens.

Repos are folders on disk: `root/models/org/name`, `root/datasets/org/name`; a folder `name@v2` is its revision `v2`.
What is answered is what the clients ask (found by reading their source, and by logging their requests): repo and
revision info, trees, paths-info, HEAD / GET / Range of files, whoami, and the three steps of an upload. Xet, the hub's
other way to store large files, is not spoken: the clients are told to use plain HTTP and LFS.

Two ways to point clients at it. `patched(monkeypatch)` changes the constants and every copy of them inside this
process: fast, good for most tests. `environment()` gives the variables for a fresh process, which is what a user
does and needs no knowledge of the clients' insides; one test of each client goes that way.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

LFS = frozenset({".safetensors", ".npz", ".parquet", ".pt", ".bin", ".pkl", ".zst", ".gguf"})
TOKEN = "hf_loopbackSECRETtoken"  # noqa: S105  (known to nobody but the tests)
_ACTIONS = ("revision", "tree", "paths-info", "preupload", "commit", "refs")


@dataclass
class Fault:
    """What goes wrong with the files that a pattern matches."""

    kind: Literal["missing", "gated", "forbidden", "error", "truncated", "corrupt", "slow", "dying"]
    """missing 404 · gated 401 without the token · forbidden 403 · error 500 · truncated: half the body, and says so ·
    corrupt: one byte changed · slow: sleeps first · dying: half the body, then the server is gone for good."""
    seconds: float = 0.0
    """How long `slow` sleeps."""
    times: int = 10**9
    """How often it happens; after that the file is fine."""


@dataclass
class LoopbackHub:
    """The hub; use it as a context manager."""

    root: Path
    """Folder with `models/` and `datasets/`."""
    faults: dict[str, Fault] = field(default_factory=dict)
    """By fnmatch pattern on `models/org/name/path/of/file`."""
    requests: list[str] = field(default_factory=list)
    """`METHOD /path` of every request so far."""
    tokens: list[str] = field(default_factory=list)
    """Every Authorization header so far."""

    def __enter__(self) -> LoopbackHub:
        hub = self

        class Handler(_Handler):
            loopback = hub

        self._hashes: dict[tuple[str, int, int], tuple[str, str]] = {}
        self.uploads: dict[str, bytes] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        """Stop listening: whoever connects from now on is refused."""
        self.server.shutdown()
        self.server.server_close()

    def repo(self, repo_id: str, kind: str = "models") -> Path:
        """Folder of a repo, made if it is not there."""
        folder = self.root / kind / repo_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def asked_for(self, name: str) -> int:
        """How many bodies of files of that name were asked for."""
        return sum(line.startswith("GET ") and line.endswith(f"/{name}") for line in self.requests)

    def environment(self, home: Path, *, token: str | None = None) -> dict[str, str]:
        """Variables that send a fresh process to this hub, with a cache of its own."""
        variables = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_ETAG_TIMEOUT": "5"}
        variables |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
        return variables | ({"HF_TOKEN": token} if token else {})

    def patched(self, monkeypatch: Any, home: Path) -> None:
        """Send the clients inside this process here, with a cache of its own and without waiting between retries."""
        import datasets.config
        import huggingface_hub as hf
        import transformers.utils.hub
        from huggingface_hub import constants, file_download, hf_api
        from huggingface_hub.utils import _http

        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_URL_HOSTS", constants.HF_URL_HOSTS | {"127.0.0.1"})
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_HOME", str(home))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        for name in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_XET"):
            monkeypatch.setattr(constants, name, True)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(hf_api.api, "endpoint", self.url)  # the module's functions are methods of this object
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", self.url)
        monkeypatch.setattr(
            datasets.config, "HUB_DATASETS_URL", self.url + "/datasets/{repo_id}/resolve/{revision}/{path}"
        )
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        for name in ("HF_DATASETS_CACHE", "HF_MODULES_CACHE"):
            monkeypatch.setattr(datasets.config, name, home / name.lower())
        hf.HfFileSystem.clear_instance_cache()  # these remember their endpoint
        monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)  # so does this one
        for module in (file_download, _http):
            monkeypatch.setattr(module, "time", SimpleNamespace(**(vars(time) | {"sleep": lambda _: None})))

    # what repos hold

    def folder(self, kind: str, repo_id: str, revision: str) -> Path | None:
        """Folder of a revision; None if there is no such repo or revision."""
        main = self.root / kind / repo_id
        other = main.with_name(f"{main.name}@{revision}")
        for folder in (main, other, *main.parent.glob(f"{main.name}@*")):
            if folder.is_dir() and (revision == self.commit(folder) or folder == other):
                return folder
        return main if main.is_dir() and revision in {"main", "None"} else None

    def files(self, folder: Path) -> dict[str, Path]:
        """Files of a revision by path."""
        return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}

    def commit(self, folder: Path) -> str:
        """Commit hash of a folder: changes with its files."""
        names = [f"{name} {self.hashes(path)[0]}" for name, path in self.files(folder).items()]
        return hashlib.sha1("\n".join([folder.name, *names]).encode()).hexdigest()  # noqa: S324

    def hashes(self, path: Path) -> tuple[str, str]:
        """Git's sha1 and the sha256 of a file."""
        stat = path.stat()
        key = (str(path), stat.st_mtime_ns, stat.st_size)
        if key not in self._hashes:
            raw = path.read_bytes()
            blob = hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()  # noqa: S324
            self._hashes[key] = (blob, hashlib.sha256(raw).hexdigest())
        return self._hashes[key]

    def fault(self, name: str) -> Fault | None:
        """The fault of a file, once."""
        for pattern, fault in self.faults.items():
            if fnmatch.fnmatch(name, pattern) and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def entry(self, name: str, path: Path) -> dict[str, Any]:
        """A file as trees and siblings describe it."""
        blob, sha256 = self.hashes(path)
        entry = {"type": "file", "path": name, "size": path.stat().st_size, "oid": blob}
        if path.suffix in LFS:
            entry["lfs"] = {"oid": sha256, "sha256": sha256, "size": path.stat().st_size, "pointerSize": 134}
        return entry


class _Refused(Exception):  # noqa: N818
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    loopback: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.loopback.requests.append(f"{self.command} {path}")
        self.loopback.tokens += self.headers.get_all("Authorization") or []
        self.query = parse_qs(url.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._route(path)
        except _Refused as refused:
            self._send(refused.status, b"{}", {"X-Error-Code": refused.code, "X-Error-Message": refused.code})
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    @property
    def _authorised(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _route(self, path: str) -> None:
        if "/resolve/" in path:
            return self._resolve(path)
        if path == "/api/whoami-v2":
            self._must_be_authorised()
            return self._json({"type": "user", "name": "tester", "orgs": [], "auth": {"type": "access_token"}})
        if path == "/api/repos/create":
            return self._create()
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._lfs_batch()
        if path.startswith("/lfs-upload/") and self.command == "PUT":
            self.loopback.uploads[path.rsplit("/", 1)[1]] = self.body
            return self._send(200, b"")
        if path.startswith("/api/"):
            kind, _, rest = path[len("/api/") :].partition("/")
            if kind in {"models", "datasets"} and rest:
                return self._repo_api(kind, rest)
        raise _Refused(404, "NotFound")

    def _repo_api(self, kind: str, rest: str) -> None:
        parts = rest.split("/")
        at = next((i for i, part in enumerate(parts) if i and part in _ACTIONS), len(parts))
        repo_id, action, more = "/".join(parts[:at]), "".join(parts[at : at + 1]), parts[at + 1 :]
        revision = more[0] if more else "main"
        folder = self._folder(kind, repo_id, revision)
        if action == "tree":
            return self._tree(folder, "/".join(more[1:]))
        if action == "paths-info":
            return self._paths_info(folder)
        if action == "preupload":
            return self._preupload()
        if action == "commit":
            return self._commit(folder, kind, repo_id)
        if action == "refs":
            branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": self.loopback.commit(folder)}
            return self._json({"branches": [branch], "tags": [], "converts": []})
        siblings = [
            {"rfilename": name} | {k: v for k, v in self.loopback.entry(name, p).items() if k in {"size", "lfs"}}
            for name, p in self.loopback.files(folder).items()
        ]
        facts = {"sha": self.loopback.commit(folder), "siblings": siblings, "private": False, "gated": False}
        return self._json({"id": repo_id, "modelId": repo_id, "tags": [], "downloads": 0, "likes": 0} | facts)

    def _folder(self, kind: str, repo_id: str, revision: str) -> Path:
        folder = self.loopback.folder(kind, repo_id, revision)
        if folder is None and (self.loopback.root / kind / repo_id).is_dir():
            raise _Refused(404, "RevisionNotFound")
        if folder is None:  # as the hub does: who may not see a repo is not told whether it exists
            raise _Refused(404 if self._authorised else 401, "RepoNotFound")
        return folder

    def _tree(self, folder: Path, under: str) -> None:
        files = {n: p for n, p in self.loopback.files(folder).items() if not under or n.startswith(f"{under}/")}
        if under and not files:
            raise _Refused(404, "EntryNotFound")
        prefix = f"{under}/" if under else ""
        folders = {name.rsplit("/", 1)[0] for name in files if "/" in name[len(prefix) :]}
        folders = {"/".join(f.split("/")[: i + 1]) for f in folders for i in range(f.count("/") + 1)}
        entries = [{"type": "directory", "path": f, "size": 0, "oid": "0" * 40} for f in sorted(folders)]
        entries = [entry for entry in entries if entry["path"].startswith(prefix)]
        entries += [self.loopback.entry(name, path) for name, path in files.items()]
        if self.query.get("recursive", ["False"])[0].lower() not in {"1", "true"}:
            entries = [entry for entry in entries if "/" not in str(entry["path"])[len(prefix) :]]
        self._json(entries)

    def _paths_info(self, folder: Path) -> None:
        if "json" in (self.headers.get("Content-Type") or ""):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode())["paths"]
        files = self.loopback.files(folder)
        found: list[dict[str, Any]] = []
        for path in paths:
            if path in files:
                found.append(self.loopback.entry(path, files[path]))
            elif any(name.startswith(f"{path}/") for name in files):
                found.append({"type": "directory", "path": path, "size": 0, "oid": "0" * 40})
        self._json(found)

    # files

    def _resolve(self, path: str) -> None:
        before, _, after = path.partition("/resolve/")
        repo_id = before.strip("/").removeprefix("api/")
        kind = "datasets" if repo_id.startswith("datasets/") else "models"
        repo_id = repo_id.removeprefix("datasets/").removeprefix("models/")
        revision, _, name = after.partition("/")
        folder = self._folder(kind, repo_id, revision)
        commit = {"X-Repo-Commit": self.loopback.commit(folder)}
        # A fault of the body is no fault of the question how long it is.
        fault = self.loopback.fault(f"{kind}/{repo_id}/{name}") if self._fault_is_due(kind, repo_id, name) else None
        self._refuse(fault)
        file = self.loopback.files(folder).get(name)
        if file is None:
            return self._send(404, b"{}", commit | {"X-Error-Code": "EntryNotFound"})
        blob, sha256 = self.loopback.hashes(file)
        headers = commit | {"ETag": f'"{blob}"', "Accept-Ranges": "bytes"}
        if file.suffix in LFS:
            headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(file.stat().st_size)}
        return self._file(file.read_bytes(), headers, fault)

    def _fault_is_due(self, kind: str, repo_id: str, name: str) -> bool:
        body_only = {"truncated", "corrupt", "slow", "dying"}
        matching = [f for p, f in self.loopback.faults.items() if fnmatch.fnmatch(f"{kind}/{repo_id}/{name}", p)]
        return bool(matching) and (self.command == "GET" or matching[0].kind not in body_only)

    def _refuse(self, fault: Fault | None) -> None:
        kind = fault.kind if fault else None
        if kind == "missing":
            raise _Refused(404, "EntryNotFound")
        if kind == "forbidden" or (kind == "gated" and not self._authorised):
            raise _Refused(403 if kind == "forbidden" or self._authorised else 401, "GatedRepo")
        if kind == "error":
            raise _Refused(500, "InternalError")

    def _file(self, raw: bytes, headers: dict[str, str], fault: Fault | None) -> None:
        kind = fault.kind if fault else None
        if fault and kind == "slow":
            time.sleep(fault.seconds)
        if kind == "corrupt":
            raw = raw[:-1] + bytes([raw[-1] ^ 1])
        if kind == "truncated":
            raw = raw[: len(raw) // 2]
        status = 200
        if (asked := self.headers.get("Range")) and kind != "truncated":
            start, _, stop = asked.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(stop or len(raw)), len(raw) - 1)
            status, headers = 206, headers | {"Content-Range": f"bytes {first}-{last}/{len(raw)}"}
            raw = raw[first : last + 1]
        if kind == "dying":
            self._die_in(raw, headers)
        else:
            self._send(status, raw, headers)

    def _die_in(self, raw: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in (headers | {"Content-Length": str(len(raw))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw[: len(raw) // 2])
        self.wfile.flush()
        self.close_connection = True
        self.loopback.die()

    # uploads

    def _must_be_authorised(self) -> None:
        if not self._authorised:
            raise _Refused(401, "Unauthorized")

    def _create(self) -> None:
        self._must_be_authorised()
        asked = json.loads(self.body)
        repo_id = f"{asked.get('organization') or 'tester'}/{asked['name']}"
        folder = self.loopback.root / f"{asked.get('type', 'model')}s" / repo_id
        if folder.is_dir():
            url = {"url": f"{self.loopback.url}/{repo_id}"}
            return self._send(409, json.dumps(url).encode(), {"X-Error-Code": "RepoAlreadyExists"})
        folder.mkdir(parents=True)
        return self._json({"url": f"{self.loopback.url}/{repo_id}", "name": repo_id})

    def _preupload(self) -> None:
        self._must_be_authorised()
        files = [
            {"path": f["path"], "uploadMode": "lfs" if Path(f["path"]).suffix in LFS else "regular"}
            for f in json.loads(self.body)["files"]
        ]
        self._json({"files": [file | {"shouldIgnore": False} for file in files]})

    def _lfs_batch(self) -> None:
        self._must_be_authorised()
        objects = [
            wanted | {"actions": {"upload": {"href": f"{self.loopback.url}/lfs-upload/{wanted['oid']}"}}}
            for wanted in json.loads(self.body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, folder: Path, kind: str, repo_id: str) -> None:
        self._must_be_authorised()
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self._write(folder, value["path"], base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                raw = self.loopback.uploads[value["oid"]]
                if hashlib.sha256(raw).hexdigest() != value["oid"]:
                    raise _Refused(422, "WrongHash")
                self._write(folder, value["path"], raw)
            elif line["key"] == "deletedFile":
                (folder / value["path"]).unlink()
        url = f"{self.loopback.url}/{repo_id}/commit/{self.loopback.commit(folder)}"
        self._json({"success": True, "commitUrl": url, "commitOid": self.loopback.commit(folder), "hookOutput": ""})

    def _write(self, folder: Path, name: str, raw: bytes) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(raw)

    # answers

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, raw: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ((headers or {}) | {"Content-Length": str(len(raw))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)


@contextmanager
def loopback_hub(root: Path) -> Iterator[LoopbackHub]:
    """A hub over a folder, for as long as the block runs."""
    with LoopbackHub(root) as hub:
        try:
            yield hub
        finally:
            from huggingface_hub.utils import close_session

            close_session()  # its connections lead to a server that is about to be gone
