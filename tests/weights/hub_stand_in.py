"""As much of the Hugging Face hub as huggingface_hub asks for, served in the test's process.

Written from what that library sends and expects. The commands that a test starts find it by
HF_ENDPOINT; within the process, `connect` says the same to the library, which reads the environment
once, when it is imported.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import socket
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

TOKEN = "hf_right"
_LARGE = (".safetensors", ".npz", ".pth", ".bin", ".onnx")


class Repository:
    """Commits, each all of its files; what branches and tags are; who may read it."""

    def __init__(self):
        self.commits, self.refs, self.private, self.gated = {}, {}, False, False

    def commit(self, files):
        number = f"{len(self.commits)} {sorted(files)}".encode()
        digest = hashlib.sha1(number + b"".join(files[n] for n in sorted(files))).hexdigest()
        self.commits[digest], self.refs["main"] = dict(files), digest
        return digest

    def resolved(self, revision):
        return revision if revision in self.commits else self.refs.get(revision)


class Hub:
    """The stand-in.

    Attributes:
      endpoint: its address.
      asked: METHOD and path of every request, in their order.
      repositories: by OWNER/NAME.
      status: what it answers to everything, where that is set.
    """

    def __init__(self, endpoint):
        self.endpoint, self.asked, self.repositories, self.blobs = endpoint, [], {}, {}
        self.status = None

    def add(self, name, files, **access):
        """A commit of these files, given as a folder or as bytes by name; returns its hash."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir()}
        repository = self.repositories.setdefault(name, Repository())
        vars(repository).update(access)
        return repository.commit(files)

    def fetched(self):
        """The names of the files whose content was asked for."""
        return [line.rsplit("/", 1)[-1] for line in self.asked if line.startswith("GET /cdn/")] + [
            line.rsplit("/", 1)[-1] for line in self.asked if "GET " in line and "/resolve/" in line
        ]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.connections.append(self.connection)

    def log_message(self, *_):
        pass

    def _answer(self, status, content=b"", **headers):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers["Content-Type"] = "application/json"
        self.send_response(status)
        headers.setdefault("Content-Length", len(content))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, status, code, **headers):
        self._answer(status, X_Error_Code=code, X_Error_Message=code, **headers)

    def _do(self):
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.hub.asked.append(f"{self.command} {path}")
        if self.server.hub.status is not None:
            self._answer(self.server.hub.status, {"error": "no service today"})
        elif path.startswith("/cdn/"):
            self._answer(200, self.server.hub.blobs[path.split("/")[2]])
        elif "/resolve/" in path:
            self._resolve(path)
        elif path.startswith("/api/models/") and self.command == "GET":
            self._about(path.removeprefix("/api/models/").split("/"))
        elif path.startswith("/api/datasets/") and self.command == "GET":
            kind, *rest = path.removeprefix("/api/").split("/")
            self._about([f"{kind}/{rest[0]}", *rest[1:]])
        else:
            self._write(path)

    do_GET = do_HEAD = do_POST = do_PUT = _do

    def _allowed(self, name, content=True):
        """The repository, or None where a refusal was sent."""
        token = self.headers.get("Authorization")
        if token not in (None, f"Bearer {TOKEN}"):
            self._answer(401, X_Error_Message="Invalid credentials in Authorization header")
            return None
        found = self.server.hub.repositories.get(name)
        if found is None or (found.private and token is None):
            self._refuse(404 if token else 401, "RepoNotFound")
        elif found.gated and content:
            self._refuse(403 if token else 401, "GatedRepo")
        else:
            return found
        return None

    def _resolve(self, path):
        name, _, rest = path[1:].partition("/resolve/")
        repository = self._allowed(name)
        if repository is None:
            return
        revision = next((r for r in repository.refs if rest.startswith(f"{r}/")), None)
        revision = revision or rest.split("/")[0]
        commit, file = repository.resolved(revision), rest[len(revision) + 1 :]
        if commit is None:
            return self._refuse(404, "RevisionNotFound")
        content = repository.commits[commit].get(file)
        if content is None:
            return self._refuse(404, "EntryNotFound", X_Repo_Commit=commit)
        digest = hashlib.sha256(content).hexdigest()
        if not file.endswith(_LARGE):
            return self._answer(200, content, ETag=f'"{digest}"', X_Repo_Commit=commit)
        self.server.hub.blobs[digest] = content
        place = self.server.hub.endpoint.replace("127.0.0.1", "localhost")  # another host
        linked = {"X_Linked_ETag": f'"{digest}"', "X_Linked_Size": len(content)}
        location = f"{place}/cdn/{digest}/{file}"
        self._answer(302, ETag='"pointer"', X_Repo_Commit=commit, Location=location, **linked)

    def _about(self, parts):
        name, kind = "/".join(parts[:2]), parts[2] if len(parts) > 2 else "revision"
        repository = self._allowed(name, content=False)
        if repository is None:
            return
        commit = repository.resolved("/".join(parts[3:]) or "main")
        if commit is None and repository.commits:
            return self._refuse(404, "RevisionNotFound")
        files = repository.commits.get(commit, {})
        if kind == "tree":
            rows = [
                {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
                for path, content in files.items()
            ]
            return self._answer(200, rows)
        about = {"id": name, "modelId": name, "sha": commit, "private": repository.private}
        siblings = [{"rfilename": path} for path in files]
        self._answer(200, about | {"tags": [], "downloads": 0, "siblings": siblings})

    def _write(self, path):
        hub, parts = self.server.hub, path.split("/")
        if path.startswith("/upload/"):
            hub.blobs[parts[2]] = self.body
            return self._answer(200)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, X_Error_Message="Invalid username or password.")
        if path == "/api/whoami-v2":
            return self._answer(200, {"type": "user", "name": "owner", "orgs": []})
        if path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        told = json.loads(self.body.splitlines()[0])
        if path == "/api/repos/create":
            name = f"{told['organization']}/{told['name']}"
            if told["organization"] != "owner":
                return self._answer(403, {"error": "You don't have the rights"})
            if name in hub.repositories:
                return self._answer(409, {"url": f"{hub.endpoint}/{name}"})
            hub.repositories[name] = Repository()
            hub.add(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
            return self._answer(200, {"url": f"{hub.endpoint}/{name}", "id": name})
        if path.endswith("/info/lfs/objects/batch"):
            made = [
                one | {"actions": {"upload": {"href": f"{hub.endpoint}/upload/{one['oid']}"}}}
                for one in told["objects"]
            ]
            return self._answer(200, {"transfer": "basic", "objects": made})
        name = "/".join(parts[3:5])
        if parts[5] == "preupload":
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(_LARGE) else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in told["files"]
            ]
            return self._answer(200, {"files": modes})
        self._commit(name)

    def _commit(self, name):
        hub = self.server.hub
        repository = hub.repositories[name]
        files = dict(repository.commits.get(repository.refs.get("main"), {}))
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                parent = value.get("parentCommit")
                if parent not in (None, repository.refs.get("main")):
                    return self._answer(412, {"error": "A commit has happened since"})
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = hub.blobs[value["oid"]]
        commit = repository.commit(files)
        url = f"{hub.endpoint}/{name}/commit/{commit}"
        self._answer(200, {"commitUrl": url, "commitOid": commit, "success": True})


@contextlib.contextmanager
def running():
    """A `Hub` that answers until the block ends."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.connections = []
    server.hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for connection in server.connections:  # which the library keeps for its next request
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def connect(monkeypatch, hub, cache):
    """Points the library, in this process, to a stand-in and an empty cache, without a token."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a protocol of its own
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def environment(hub, cache):
    """The same for a command that is started."""
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
