"""A local store as MLflow's own pages ask for it: what `mlflow ui` would show."""

from __future__ import annotations

from pathlib import Path

from rl_logging.records import Config, Image, Metrics, Model
from tests.support.mlflow_driver import CREATED, Bench
from tests.support.mlflow_server import reserved_mlflow_server


def test_a_local_store_opened_with_mlflow_ui(tmp_path: Path) -> None:
    with reserved_mlflow_server(tmp_path / "store") as server:
        bench = Bench(f"sqlite:///{server.folder / 'server.db'}", tmp_path / "run", {"experiment": "Default"})
        bench.place("models/best/step_1/model.zip", b"m")
        bench.deliver(
            [
                *(Metrics(seq=i, time=CREATED + i, step=10 * i, values={"train/loss": 1 / i}) for i in (1, 2, 3)),
                Config(seq=4, time=CREATED, values={"ppo": {"lr": 3e-4}}),
                Image(seq=5, time=CREATED, step=10, name="eval/frame", path=bench.place_png("media/5.png")),
                Model(seq=6, time=CREATED, step=1, name="best", path="models/best/step_1"),
            ]
        )
        server.start()
        api = "/ajax-api/2.0/mlflow"
        shown = server.get(f"{api}/runs/get?run_id={bench.run_id}")["run"]
        assert (shown["info"]["run_name"], shown["info"]["status"]) == ("my run", "FINISHED")
        assert {"key": "ppo/lr", "value": "0.0003"} in shown["data"]["params"]
        history = server.get(f"{api}/metrics/get-history?run_id={bench.run_id}&metric_key=train/loss")["metrics"]
        assert [(point["step"], point["value"]) for point in history] == [(10, 1.0), (20, 0.5), (30, 1 / 3)]
        listed = server.get(f"{api}/artifacts/list?run_id={bench.run_id}")["files"]
        assert {entry["path"] for entry in listed} == {"config.yaml", "images", "models"}
        images = server.get(f"{api}/artifacts/list?run_id={bench.run_id}&path=images")["files"]
        assert len(images) == 2
        assert all(entry["path"].startswith("images/eval~frame+step+10+timestamp+") for entry in images)
        assert (server.folder / "mlruns" / "0" / bench.run_id / "artifacts" / "config.yaml").exists()
