"""A stand-in for the hub: the parts of its API over HTTP by which the hub's client lists, makes, fills and reads a repository.

Large files go through the LFS batch API, others in the commit. What was sent is checked against the SHA-256 that was announced,
and a commit with a large file that never came is refused, as on the hub.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secretSECRETsecret"
_LFS_BYTES = 50_000  # Larger files are large files.


@dataclass
class Repository:
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b""})
    commits: list[str] = field(default_factory=lambda: ["0" * 40])


@dataclass
class StandIn:
    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    """By "models/org/name" or "datasets/org/name"."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refuse: dict[str, int] = field(default_factory=dict)
    """The status with which a request is refused, by a part of its path."""
    corrupt: bool = False

    def environment(self, cache: str) -> dict[str, str]:
        """For a process that is to take this for the hub."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": cache,
            "HF_HUB_OFFLINE": "0",
        }


@contextmanager
def hub_stand_in() -> Iterator[StandIn]:
    hub = StandIn()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, status: int, value: object = None, content: bytes | None = None, **headers: str) -> None:
        data = content if content is not None else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _begin(self) -> tuple[str, bytes] | None:
        """The path and the body; None if the request is refused."""
        path = unquote(urlsplit(self.path).path)
        self.state.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        for part, status in self.state.refuse.items():
            if part in path:
                error = f"no, not with {TOKEN}"
                self._answer(status, {"error": error}, X_Error_Message=error)
                return None
        if "/lfs-store/" not in path and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "log in"})
            return None
        return path, body

    def do_GET(self) -> None:
        if (begun := self._begin()) is None:
            return
        path = begun[0].removeprefix("/api/")
        if "/resolve/" in path:
            return self._resolve(path.lstrip("/"))
        kind, organization, name, *rest = path.split("/")
        repository = self.state.repositories.get(f"{kind}/{organization}/{name}")
        if repository is None:
            return self._answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        if rest[:1] == ["tree"]:
            return self._answer(
                200,
                [
                    {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for file, content in repository.files.items()
                ],
            )
        siblings = [{"rfilename": file} for file in repository.files]
        return self._answer(200, {"id": f"{organization}/{name}", "sha": repository.commits[-1], "siblings": siblings})

    do_HEAD = do_GET

    def _resolve(self, path: str) -> None:
        place, _, rest = path.partition("/resolve/")
        file = rest.partition("/")[2]
        key = place if place.startswith("datasets/") else f"models/{place}"
        repository = self.state.repositories[key]
        content = repository.files.get(file)
        if content is None:
            return self._answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        return self._answer(
            200, content=content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=repository.commits[-1]
        )

    def do_PUT(self) -> None:
        if (begun := self._begin()) is None:
            return
        path, body = begun
        oid = path.rpartition("/")[2]
        content = body[:-1] + b"?" if self.state.corrupt else body
        if hashlib.sha256(content).hexdigest() != oid:
            return self._answer(400, {"error": "the content does not have this SHA-256"})
        self.state.blobs[oid] = content
        return self._answer(200, {})

    def do_POST(self) -> None:
        if (begun := self._begin()) is None:
            return
        path, body = begun
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\n")
            return self._answer(200, {"errors": [], "warnings": []})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._answer(
                200, {"transfer": "basic", "objects": [self._action(item) for item in json.loads(body)["objects"]]}
            )
        place, _, what = path.removeprefix("/api/").partition("/preupload/")
        if what:
            files = json.loads(body)["files"]
            return self._answer(
                200,
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": "lfs" if file["size"] > _LFS_BYTES else "regular",
                            "shouldIgnore": False,
                        }
                        for file in files
                    ]
                },
            )
        place, _, what = path.removeprefix("/api/").partition("/commit/")
        return self._commit(place, [json.loads(line) for line in body.splitlines()])

    def _create(self, wanted: dict[str, str]) -> None:
        place = f"{wanted.get('type') or 'model'}s/{wanted['organization']}/{wanted['name']}"
        url = f"{self.state.endpoint}/{place.removeprefix('models/')}"
        if place in self.state.repositories:
            return self._answer(409, {"error": "You already created this repo", "url": url})
        self.state.repositories[place] = Repository()
        return self._answer(200, {"url": url})

    def _action(self, item: dict[str, str]) -> dict[str, object]:
        if item["oid"] in self.state.blobs:
            return dict(item)
        href = f"{self.state.endpoint}/lfs-store/{item['oid']}?X-Amz-Signature=signed"
        return {**item, "actions": {"upload": {"href": href, "header": {}}}}

    def _commit(self, place: str, lines: list[dict[str, dict[str, str]]]) -> None:
        repository, files = self.state.repositories[place], {}
        parent = lines[0]["value"].get("parentCommit")
        if parent and parent != repository.commits[-1]:
            return self._answer(412, {"error": "the branch has moved"})
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "lfsFile":
                if value["oid"] not in self.state.blobs:
                    return self._answer(400, {"error": f"{value['path']} was never sent"})
                files[value["path"]] = self.state.blobs[value["oid"]]
            else:
                files[value["path"]] = base64.b64decode(value["content"])
        repository.files |= files
        repository.commits.append(hashlib.sha1(b"".join(sorted(files.values()))).hexdigest())
        return self._answer(200, {"commitUrl": f"{self.state.endpoint}/{place}/commit/x", "commitOid": repository.commits[-1]})
