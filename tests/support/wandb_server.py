"""A stand-in for W&B's server: enough of its API for the real client's online runs, artifacts and ``wandb sync``.

It keeps what it was sent, by run id, so that tests compare that with what was logged. It listens on 127.0.0.1 on a free
port and stops with its ``with`` block.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

API_KEY = "0123456789abcdef0123456789abcdef01234567"
ENTITY = "tester"


@dataclass
class StoredRun:
    """One run as the server has it."""

    id: str
    project: str
    fields: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    events: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None
    complete: bool = False

    @property
    def last_step(self) -> int:
        """The highest ``_step`` stored, -1 for none."""
        return max((row["_step"] for row in self.rows), default=-1)


@dataclass
class StoredArtifact:
    """One artifact as the server has it; `files` by their path inside it."""

    id: str
    input: dict[str, Any]
    state: str = "PENDING"
    manifest: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The artifact's name without version."""
        return str(self.input["artifactCollectionName"])


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that was killed
            super().handle_error(request, client_address)


class WandbServer:
    """The server; use it in a ``with`` statement.

    Attributes:
        runs: Runs by id.
        artifacts: Artifacts by digest: the same content sent again is the same artifact, as with the real one.
        operations: Names of the GraphQL operations asked, in order.
        posted: The paths of all POST requests, in order.
        refuse: An HTTP status to answer everything with, None to serve.
        faults: HTTP statuses to answer some things with: by GraphQL operation, ``file_stream``, or ``put artifact``,
            ``put manifest`` and ``put run`` for uploads. 200 for an operation is a GraphQL error.
        holds: Events that the same things wait for before they are answered, a minute at most.
    """

    def __init__(self) -> None:
        self.runs: dict[str, StoredRun] = {}
        self.artifacts: dict[str, StoredArtifact] = {}
        self.operations: list[str] = []
        self.posted: list[str] = []
        self.refuse: int | None = None
        self.faults: dict[str, int] = {}
        self.holds: dict[str, threading.Event] = {}
        self.lock = threading.RLock()
        self._uploads: list[tuple[str, str, str]] = []
        self._http = _HttpServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"server_state": self}))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """What goes into WANDB_BASE_URL."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> WandbServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()

    def artifact(self, name: str) -> list[StoredArtifact]:
        """Returns the committed artifacts of that name."""
        return [a for a in self.artifacts.values() if a.name == name and a.state == "COMMITTED"]

    # GraphQL: one method an operation, named after it in lower case; each returns what stands under "data".

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        """Returns the data for one GraphQL operation, None for one that is not known."""
        with self.lock:
            self.operations.append(operation)
            method = getattr(self, f"_op_{operation.lower()}", None)
            return None if method is None else method(variables)

    def _op_viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        who = {"id": "user1", "entity": ENTITY, "username": ENTITY, "email": "t@example.org", "admin": False}
        return {"viewer": {**who, "flags": "{}", "apiKeys": {"edges": []}, "teams": teams}}

    def _op_getdefaultentity(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "user1", "entity": ENTITY}}

    def _op_serverfeaturesquery(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _op_orgfeatureflags(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"organization": {"featureFlags": []}}

    def _op_xxhashdigestsenabled(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"xxhashDigestsEnabled": False}}

    def _op_upsertbucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        run_id = variables.get("name") or variables["id"]
        inserted = run_id not in self.runs
        project = variables.get("project") or "uncategorized"
        run = self.runs.setdefault(run_id, StoredRun(id=run_id, project=project))
        run.fields.update({k: v for k, v in variables.items() if v is not None})
        if variables.get("config"):
            run.config = {k: v["value"] for k, v in json.loads(variables["config"]).items()}
        if variables.get("summaryMetrics"):
            run.summary = json.loads(variables["summaryMetrics"])
        return {"upsertBucket": {"bucket": self._run(run), "inserted": inserted}}

    def _op_runresumestatus(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(variables["name"])
        project = {"id": "p1", "name": variables["project"], "entity": {"id": "e1", "name": ENTITY}}
        if run is None:
            return {"model": {**project, "bucket": None}}
        tail = {"historyTail": json.dumps([json.dumps(row) for row in run.rows[-1:]]), "eventsTail": "[]"}
        bucket = {**self._run(run), **tail, "wandbConfig": json.dumps({"t": 1}), "logLineCount": 0}
        return {"model": {**project, "bucket": bucket}}

    def _op_run(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(variables["name"])
        return {"project": {"internalId": "1", "run": None if run is None else self._run(run)}}

    _op_runhistorykeys = _op_queryruninfo = _op_runstate = _op_getrun = _op_run

    def _op_runfiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[variables["name"]]
        wanted = variables.get("fileNames") or []
        found = [name for name in run.files if not wanted or name in wanted]
        node = {"mimetype": "", "updatedAt": "2024-01-01T00:00:00", "md5": "", "storagePath": ""}
        edges = [
            {"node": {**node, "id": n, "name": n, "url": "", "directUrl": "", "sizeBytes": str(len(run.files[n]))}}
            for n in found
        ]
        files = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "1", "run": {"fileCount": len(found), "files": files}}}

    def _op_createrunfiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = variables["run"]
        files = [{"name": n, "uploadUrl": self._upload_url("run", run, n)} for n in variables["files"]]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}

    def _op_markrunfilesuploaded(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"markRunFilesUploaded": {"success": True}}

    def _op_createartifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        given = variables.get("input") or variables
        names = given.get("artifactCollectionNames") or [given.get("artifactCollectionName")]
        given = {**given, "artifactCollectionName": names[0]}
        stored = self.artifacts.get(given["digest"])
        if stored is None:
            stored = StoredArtifact(id=f"artifact-{len(self.artifacts)}", input=given)
            self.artifacts[given["digest"]] = stored
        latest = {"id": stored.id} if stored.state == "COMMITTED" else None
        sequence = {"id": f"sequence-{stored.name}", "latestArtifact": latest}
        return {"createArtifact": {"artifact": {"id": stored.id, "state": stored.state, "artifactSequence": sequence}}}

    def _op_createartifactmanifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = (variables.get("input") or variables)["artifactID"]
        place = {"id": "f1", "uploadUrl": self._upload_url("manifest", artifact), "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": f"m-{artifact}", "file": place}}}

    def _op_createartifactfiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for spec in (variables.get("input") or variables)["artifactFiles"]:
            artifact, name = spec["artifactID"], spec["name"]
            place = {"storagePath": f"{artifact}/{name}", "uploadUrl": self._upload_url("artifact", artifact, name)}
            place |= {"uploadHeaders": [], "uploadMultipartUrls": None, "artifact": {"id": artifact}}
            edges.append({"node": place})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _op_commitartifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = self._by_id((variables.get("input") or variables)["artifactID"])
        artifact.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.input["digest"]}}}

    def _op_artifactbyid(self, variables: dict[str, Any]) -> dict[str, Any]:
        stored = self._by_id(variables["id"])
        project = {"id": "p1", "internalId": "1", "name": stored.input["projectName"], "entity": {"name": ENTITY}}
        sequence = {"__typename": "ArtifactSequence", "id": "s1", "name": stored.name, "project": project}
        told = {"id": stored.id, "digest": stored.input["digest"], "metadata": stored.input["metadata"], "aliases": []}
        told |= {"artifactSequence": sequence, "artifactType": {"name": stored.input["artifactTypeName"]}}
        told |= {"__typename": "Artifact", "state": stored.state, "size": 1, "fileCount": len(stored.files), "tags": []}
        told |= dict.fromkeys(("description", "historyStep", "commitHash", "updatedAt"))
        told |= {"versionIndex": 0, "ttlDurationSeconds": 0, "ttlIsInherited": True, "createdAt": "2024-01-01T00:00:00"}
        return {"artifact": told}

    def _run(self, run: StoredRun) -> dict[str, Any]:
        project = {"id": "p1", "name": run.project, "entity": {"id": "e1", "name": ENTITY}}
        times = {"createdAt": "2024-01-01T00:00:00", "heartbeatAt": "2024-01-01T00:00:00"}
        counts = {"historyLineCount": len(run.rows), "eventsLineCount": run.events, "logLineCount": 0}
        texts = {
            "config": json.dumps({k: {"value": v} for k, v in run.config.items()}),
            "summaryMetrics": json.dumps(run.summary),
            "systemMetrics": "{}",
            "historyKeys": {"lastStep": run.last_step},
        }
        about = {
            "id": run.id,
            "projectId": "1",
            "name": run.id,
            "displayName": run.fields.get("displayName"),
            "notes": run.fields.get("notes"),
            "description": None,
            "tags": run.fields.get("tags") or [],
            "group": run.fields.get("groupName"),
            "jobType": run.fields.get("jobType"),
            "commit": run.fields.get("commit"),
            "state": ("finished" if run.exit_code == 0 else "failed") if run.complete else "running",
        }
        about |= {"sweepName": None, "readOnly": False, "user": {"name": ENTITY, "username": ENTITY}}
        return {**about, **times, **counts, **texts, "project": project}

    def _upload_url(self, kind: str, owner: str, name: str = "") -> str:
        """Returns an address without the name in it, which may be anything."""
        self._uploads.append((kind, owner, name))
        return f"{self.url}/put/{len(self._uploads) - 1}"

    def _by_id(self, artifact: str) -> StoredArtifact:
        return next(a for a in self.artifacts.values() if a.id == artifact)

    # What is not GraphQL.

    def stream(self, run_id: str, body: dict[str, Any]) -> None:
        """Takes one file stream message; lines before the stored ones' end overwrite them."""
        with self.lock:
            run = self.runs[run_id]
            for name, part in (body.get("files") or {}).items():
                if name == "wandb-history.jsonl":
                    run.rows[part["offset"] :] = [json.loads(line) for line in part["content"]]
                elif name == "wandb-summary.json" and part["content"]:
                    run.summary = json.loads(part["content"][-1])
                elif name == "wandb-events.jsonl":
                    run.events = part["offset"] + len(part["content"])
            if body.get("complete"):
                run.complete, run.exit_code = True, body.get("exitcode")

    def upload_kind(self, number: int) -> str:
        """Returns what is uploaded to an address that an operation gave: ``run``, ``manifest`` or ``artifact``."""
        return self._uploads[number][0]

    def put(self, number: int, body: bytes) -> None:
        """Takes one upload to an address that an operation gave."""
        with self.lock:
            kind, owner, name = self._uploads[number]
            if kind == "run":
                self.runs[owner].files[name] = body
            elif kind == "manifest":
                self._by_id(owner).manifest = json.loads(body)
            else:
                self._by_id(owner).files[name] = body


class _Handler(BaseHTTPRequestHandler):
    server_state: WandbServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        state = self.server_state
        state.posted.append(self.path)
        raw = self._body()
        if self.path.startswith("/graphql"):
            body = json.loads(raw)
            operation = body.get("operationName") or re.search(r"(?:query|mutation)\s+(\w+)", body["query"])[1]  # type: ignore[index]
            if not self._refused(operation):
                data = state.answer(operation, body.get("variables") or {})
                self._reply({"errors": [{"message": f"unknown {operation}"}]} if data is None else {"data": data})
        elif self.path.endswith("/file_stream"):
            if not self._refused("file_stream"):
                state.stream(self.path.split("/")[-2], json.loads(raw or b"{}"))
                self._reply({"exitcode": None, "limits": {}})
        else:
            self._reply({}, 404)

    def do_PUT(self) -> None:
        body = self._body()
        number = int(self.path.rpartition("/")[2])
        if not self._refused(f"put {self.server_state.upload_kind(number)}"):
            self.server_state.put(number, body)
            md5 = hashlib.md5(body).digest()
            self._reply({}, headers={"ETag": f'"{md5.hex()}"', "Content-MD5": base64.b64encode(md5).decode()})

    def _refused(self, what: str) -> bool:
        hold = self.server_state.holds.get(what)
        if hold is not None:
            hold.wait(60)
        status = self.server_state.refuse or self.server_state.faults.get(what)
        if status is not None:
            self._reply({"errors": [{"message": f"{what} refused with {status}"}]}, status)
        return status is not None

    def do_GET(self) -> None:
        self._reply({}, 404)

    def log_message(self, format: str, *args: Any) -> None:
        """Stays silent."""

    def _body(self) -> bytes:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw

    def _reply(self, answer: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> None:
        payload = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)
