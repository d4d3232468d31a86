"""The stand-in for W&B's server, and what its public API reads from it: runs, histories, artifacts, links."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, unquote

from tests.support.wandb_server import ENTITY, StoredArtifact, WandbServer, _Handler

CREATED = "2024-01-01T00:00:0{}Z"
_WORDS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class ReadableWandbServer(WandbServer):
    """The server; artifacts belong to the one run that their names end in.

    Attributes:
        links: The versions of each registry's collections, by ``entity/project/collection``: artifacts' ids, each once.
        aliases: The version, from 0, that each alias of a collection names.
    """

    def __init__(self) -> None:
        super().__init__()
        self.links: dict[str, list[str]] = {}
        self.aliases: dict[str, dict[str, int]] = {}
        self._http.RequestHandlerClass = type("Handler", (_ReadingHandler,), {"server_state": self})

    def _op_getprojects(self, _: dict[str, Any]) -> dict[str, Any]:
        names = sorted({run.project for run in self.runs.values()})
        node = {"__typename": "Project", "entityName": ENTITY, "isBenchmark": False, "user": None}
        nodes = [{**node, "id": n, "name": n, "createdAt": CREATED.format(i)} for i, n in enumerate(names)]
        return {"models": _page(nodes)}

    def _op_runs(self, variables: dict[str, Any]) -> dict[str, Any]:
        found = [run for run in self.runs.values() if run.project == variables["project"]]
        nodes = [self._run(run) for run in found]
        return {"project": {"internalId": "1", "readOnly": False, "runCount": len(nodes), "runs": _page(nodes)}}

    # wandb-core reads a run's history: what is in Parquet files, of which there are none here, and then the rest.

    def _op_runparquethistory(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"run": {"parquetHistory": {"liveData": [], "parquetUrls": []}}}}

    def _op_historypage(self, variables: dict[str, Any]) -> dict[str, Any]:
        rows = self._rows(variables, variables["minStep"], variables["maxStep"])
        return {"project": {"run": {"history": [json.dumps(row) for row in rows]}}}

    def _op_sampledhistorypage(self, variables: dict[str, Any]) -> dict[str, Any]:
        spec = json.loads(variables["spec"])
        rows = self._rows(variables, spec["minStep"], spec["maxStep"] + 1)
        keys = spec["keys"]
        sampled = [{key: row[key] for key in keys} for row in rows if all(key in row for key in keys)]
        return {"project": {"run": {"sampledHistory": [sampled]}}}

    def _op_runoutputartifacts(self, variables: dict[str, Any]) -> dict[str, Any]:
        found = [it for it in self.artifacts.values() if it.name.endswith(f"-{variables['run']}")]
        nodes = [self._op_artifactbyid({"id": it.id})["artifact"] for it in found if it.state == "COMMITTED"]
        return {"project": {"run": {"artifacts": _page(nodes)}}}

    def _op_artifactbyid(self, variables: dict[str, Any]) -> dict[str, Any]:
        answer = super()._op_artifactbyid(variables)
        stored = self._by_id(variables["id"])
        same = [it for it in self.artifacts.values() if it.name == stored.name]
        answer["artifact"] |= {"versionIndex": same.index(stored), "digestAlgorithm": "MANIFEST_MD5"}
        answer["artifact"]["size"] = sum(map(len, stored.files.values()))
        return answer

    def _op_fetchartifactmanifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"artifact": {"currentManifest": {"file": {"directUrl": f"{self.url}/get/{variables['id']}"}}}}

    def _op_getartifactmembershipfileurls(self, variables: dict[str, Any]) -> dict[str, Any]:
        stored = self._version(variables["collection"], variables["alias"])
        node = {"__typename": "File"}
        nodes = [
            {**node, "name": name, "directUrl": f"{self.url}/get/{stored.id}/{quote(name, safe='')}"}
            for name in stored.files
        ]
        membership = {"files": _page(nodes)}
        return {"project": {"artifactCollection": {"__typename": "ArtifactSequence", "artifactMembership": membership}}}

    def _op_fetchorginfofromentity(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": {"name": "org", "orgEntity": {"name": "org-entity"}}, "user": None}}

    def _op_linkartifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        given = variables["input"]
        collection = "/".join(given[key] for key in ("entityName", "projectName", "artifactPortfolioName"))
        versions = self.links.setdefault(collection, [])
        if given["artifactID"] not in versions:
            versions.append(given["artifactID"])
        version = versions.index(given["artifactID"])
        named = self.aliases.setdefault(collection, {})
        named |= dict.fromkeys((alias["alias"] for alias in given["aliases"]), version)
        artifact = self._op_artifactbyid({"id": given["artifactID"]})["artifact"]
        project = {"id": "p2", "internalId": "2", "name": given["projectName"], "entity": {"name": given["entityName"]}}
        place = {"__typename": "ArtifactPortfolio", "name": given["artifactPortfolioName"], "project": project}
        membership = {"__typename": "ArtifactCollectionMembership", "id": f"m-{version}", "versionIndex": version}
        membership |= {"createdAt": CREATED.format(0), "updatedAt": None}
        membership |= {"aliases": [], "artifactCollection": place, "artifact": artifact}
        return {"result": {"versionIndex": version, "artifactMembership": membership}}

    def _version(self, name: str, alias: str) -> StoredArtifact:
        return [it for it in self.artifacts.values() if it.name == name][int(alias.removeprefix("v"))]

    def content(self, artifact: str, name: str | None) -> bytes:
        """Returns a file of an artifact, or its manifest."""
        with self.lock:
            stored = self._by_id(artifact)
            return json.dumps(stored.manifest).encode() if name is None else stored.files[name]

    def _rows(self, variables: dict[str, Any], low: int, high: int) -> list[dict[str, Any]]:
        found = [row for row in self.runs[variables["run"]].rows if low <= row["_step"] < high]
        # What JSON has no number for, the real server gives as text.
        return [{key: _WORDS.get(repr(value), value) for key, value in row.items()} for row in found]


class _ReadingHandler(_Handler):
    server_state: ReadableWandbServer

    def do_GET(self) -> None:  # noqa: N802 - the name that the base class calls
        # /get/<artifact>: a manifest; /get/<artifact>/<name> and /artifactsV2/<region>/<entity>/<project>/<collection>
        # /<artifact>/<digest>/<name>: a file.
        _, kind, *rest = self.path.partition("?")[0].split("/")
        artifact, *name = rest if kind == "get" else (rest[4], rest[6])
        body = self.server_state.content(artifact, unquote(name[0]) if name else None)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _page(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    edges = [{"node": node, "cursor": str(number)} for number, node in enumerate(nodes)]
    info = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
    return {"edges": edges, "pageInfo": info, "totalCount": len(nodes)}
