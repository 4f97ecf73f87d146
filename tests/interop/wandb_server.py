"""As much of a W&B server as its client needs to log in, and to begin, resume and write runs.

It keeps rows of a run's history where the client says they belong, and says on resuming how many
there are, and the last one, as W&B's own does.
"""

import contextlib
import gzip
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """What was written, by run.

    Attributes:
      history: rows.
      config, names, groups: as the client gave them.
      url: where it is.
    """

    def __init__(self):
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.config: dict[str, Any] = {}
        self.names: dict[str, str] = {}
        self.groups: dict[str, str | None] = {}
        self.url = ""

    def streamed(self, run: str, files: dict[str, Any]) -> None:
        part = files.get("wandb-history.jsonl")
        if part:
            rows = self.history.setdefault(run, [])
            rows[part["offset"] :] = map(json.loads, part["content"])

    def answer(self, query: str, asked: dict[str, Any]) -> dict[str, Any]:
        operation = re.search(r"(?:query|mutation)\s+(\w+)", query)[1]
        return getattr(self, f"_{operation}", lambda asked: {})(asked)

    def _Viewer(self, asked):
        user = {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": user}

    def _RunResumeStatus(self, asked):
        name = asked["name"]
        bucket = None
        if name in self.names:
            rows = self.history.get(name, [])
            bucket = {
                "id": name,
                "name": name,
                "summaryMetrics": "{}",
                "displayName": self.names[name],
                "logLineCount": 0,
                "historyLineCount": len(rows),
                "eventsLineCount": 0,
                "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
                "eventsTail": "[]",
                "config": "{}",
                "tags": [],
                "wandbConfig": '{"t": 1}',
            }
        return {"model": _project() | {"bucket": bucket}}

    def _UpsertBucket(self, asked):
        name = asked["name"]
        self.names[name] = asked.get("displayName") or self.names.get(name, name)
        self.groups[name] = asked.get("groupName") or self.groups.get(name)
        if asked.get("config"):
            given = json.loads(asked["config"])
            self.config.setdefault(name, {}).update({k: v["value"] for k, v in given.items()})
        run = {"id": name, "name": name, "displayName": self.names[name], "config": "{}"}
        run |= {"description": None, "sweepName": None, "project": _project()}
        return {"upsertBucket": {"bucket": run | {"historyLineCount": 0}, "inserted": True}}

    def _CreateRunFiles(self, asked):
        files = [{"name": name, "uploadUrl": f"{self.url}/files"} for name in asked["files"]]
        made = {"runID": asked["run"], "uploadHeaders": [], "files": files}
        return {"createRunFiles": made}


def _project():
    return {"id": "p", "name": "mae_jax", "entity": {"id": "e", "name": "me"}}


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server, at its `url`."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def reply(self, value):
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def body(self):
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

        def do_PUT(self):
            self.body()
            self.reply({})

        do_GET = do_PUT

        def do_POST(self):
            data = self.body()
            stream = re.search(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
            if stream:
                server.streamed(stream[1], json.loads(data).get("files") or {})
                self.reply({"limits": {}})
            elif self.path.endswith("/graphql"):
                asked = json.loads(data)
                self.reply({"data": server.answer(asked["query"], asked.get("variables") or {})})
            else:
                self.reply({})

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.handle_error = lambda request, address: None  # of clients that were killed
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
