"""A hub on loopback: the few calls of the Hugging Face Hub that pggan makes, through huggingface_hub."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

LARGE = 1000  # bytes from which on a file is one of LFS, with a SHA-256


def git_sha(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub:
    """Repositories by (kind, user/name): their commits, oldest first, and branches and tags."""

    def __init__(self):
        self.repositories, self.requests, self.objects = {}, [], {}
        self.broken = set()  # names of files that are sent with a wrong byte
        self.token, self.private = None, {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def commit(self, kind, name, files, branch="main"):
        """Adds files to a branch of a repository, which is made where it is missing; returns the commit."""
        repository = self.repositories.setdefault((kind, name), {"commits": {}, "refs": {"main": None}})
        whole = {**repository["commits"].get(repository["refs"].get(branch), {}), **files}
        sha = hashlib.sha1(repr((kind, name, branch, sorted(whole.items()))).encode()).hexdigest()
        repository["commits"][sha], repository["refs"][branch] = whole, sha
        return sha

    def tag(self, kind, name, tag):
        repository = self.repositories[kind, name]
        repository["refs"][tag] = repository["refs"]["main"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments):
        pass

    def end_headers(self):
        self.send_header("Connection", "close")  # so that a hub that closes is gone at once
        super().end_headers()

    def do_HEAD(self):
        self._resolve(body=False)

    def do_GET(self):
        path = self._path()
        if path.startswith("/api/"):
            self._info(path)
        else:
            self._resolve(body=True)

    def do_POST(self):
        path, body = self._path(), self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.hub.token is None or self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._json({"error": "Invalid username or password."}, 401)
        elif path == "/api/repos/create":
            values = json.loads(body)
            name = f"{values['organization']}/{values['name']}" if values.get("organization") else values["name"]
            exists = ("models", name) in self.hub.repositories
            if not exists:
                self.hub.commit("models", name, {".gitattributes": b"*.safetensors filter=lfs\n"})
                self.hub.private[name] = bool(values.get("private") or values.get("visibility") == "private")
            self._json({"url": f"{self.hub.url}/{name}"}, 409 if exists else 200)
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["size"] >= LARGE else "regular", "shouldIgnore": False}
                for f in files
            ]
            self._json({"files": modes})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [{**o, "actions": {"upload": {"href": f"{self.hub.url}/upload/{o['oid']}", "header": {}}}}
                       for o in json.loads(body)["objects"]]  # fmt: skip
            self._json({"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            self._commit(path, body)
        else:
            self._json({"error": f"unknown: {path}"}, 500)

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        assert hashlib.sha256(data).hexdigest() == self._path().rpartition("/")[2]
        self.hub.objects[hashlib.sha256(data).hexdigest()] = data
        self._json({})

    def _commit(self, path, body):
        name, files = path.removeprefix("/api/models/").partition("/commit/")[0], {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        sha = self.hub.commit("models", name, files)
        url = f"{self.hub.url}/{name}/commit/{sha}"
        self._json({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def _path(self):
        path = unquote(urlparse(self.path).path)
        self.hub.requests.append((self.command, path))
        return path

    def _find(self, kind, name, revision):
        """The commit of a revision; answers itself, with None, where there is none."""
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            self._missing("RepoNotFound", 401)
            return None
        sha = repository["refs"].get(revision, revision)
        if sha not in repository["commits"]:
            self._missing("RevisionNotFound", 404)
            return None
        return sha, repository["commits"][sha]

    def _info(self, path):
        _, _, kind, user, name, *rest = path.split("/")
        revision = "/".join(rest[1:]) if rest[:1] in (["revision"], ["tree"]) else "main"
        if (found := self._find(kind, f"{user}/{name}", revision)) is None:
            return
        if rest[:1] == ["tree"]:
            self._json(
                [{"type": "file", "path": p, "size": len(data), "oid": git_sha(data)} for p, data in found[1].items()]
            )
        else:
            siblings = [{"rfilename": file} for file in found[1]]
            self._json({"id": f"{user}/{name}", "sha": found[0], "siblings": siblings, "private": False, "tags": []})

    def _resolve(self, body):
        path = self._path().strip("/")
        kind = "datasets" if path.startswith("datasets/") else "models"
        repository, _, rest = path.removeprefix("datasets/").partition("/resolve/")
        revisions = self.hub.repositories.get((kind, repository), {"refs": {}, "commits": {}})
        known = [*revisions["refs"], *revisions["commits"]]
        revision = next((r for r in known if rest.startswith(f"{r}/")), rest.partition("/")[0])
        if (found := self._find(kind, repository, revision)) is None:
            return
        sha, files = found
        name = rest[len(revision) + 1 :]
        if name not in files:
            self._missing("EntryNotFound", 404, sha)
            return
        data = files[name]
        large = len(data) >= LARGE
        digest = hashlib.sha256(data).hexdigest() if large else git_sha(data)
        sent = data[:-1] + bytes([data[-1] ^ 1]) if name in self.hub.broken else data
        self.send_response(200)
        for key, value in {
            "X-Repo-Commit": sha, "ETag": f'"{digest}"', "Content-Length": str(len(data)), "Accept-Ranges": "bytes",
            **({"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))} if large else {}),
        }.items():  # fmt: skip
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(sent)

    def _missing(self, code, status, sha=None):
        self.send_response(status)
        for key, value in {"X-Error-Code": code, "X-Error-Message": code, "Content-Length": "0"}.items():
            self.send_header(key, value)
        if sha:
            self.send_header("X-Repo-Commit", sha)
        self.end_headers()

    def _json(self, value, status=200):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
