"""Takes the documentation's screenshots: a small sweep, shown by MLflow's own pages in a headless Chromium.

Run it as ``python docs/screenshots/take.py``. It needs ``apt-get install chromium chromium-driver``, and
``pip install --group screenshots``; no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.support.mlflow_server import running_mlflow_server  # noqa: E402

TIMEOUT_S = 300
PAGE_TIMEOUT_S = 60
BYTES_MOST = 200_000
TRIALS = 4
PARENT = "mlflow.parentRunId"
# MLflow's page, as of 3.17.
CLOSE = "button[data-component-id='mlflow.assistant.chat_panel.close']"
UNFOLD = "button[data-component-id$='runnamecellrenderer.tsx_46']"
ROW = ".ag-center-cols-container .ag-row"


def sweep(folder: Path, uri: str) -> None:
    """Runs the example's sweep, delivered to a server."""
    code = (
        "import sys; from rl_logging.examples import ray_sweep as it; make = it.configure\n"
        f"it.configure = lambda folder: {{**make(folder), 'mlflow': {{'tracking_uri': {uri!r}}}, 'wandb': None}}\n"
        "sys.argv[1:] = ['--dir', 'out']; it.main()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, timeout=TIMEOUT_S)


@contextmanager
def browser(profile: Path) -> Iterator[webdriver.Chrome]:
    """Gives a headless Chromium.

    Raises:
        RuntimeError: There is none.
    """
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        raise RuntimeError("there is no chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("headless", "no-sandbox", "disable-gpu", "hide-scrollbars", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    for flag in ("disable-component-update", "disable-sync", "no-first-run", f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    page = webdriver.Chrome(options, Service(driver))
    try:
        page.set_window_size(1400, 660)
        yield page
    finally:
        page.quit()


def awaited(page: webdriver.Chrome, selector: str, count: int = 1) -> list[WebElement]:
    """Returns a page's elements, once there are enough of them."""

    def enough(it: webdriver.Chrome) -> list[WebElement]:
        found = it.find_elements(By.CSS_SELECTOR, selector)
        return found if len(found) >= count else []

    return list(WebDriverWait(page, PAGE_TIMEOUT_S).until(enough))


def save(page: webdriver.Chrome, name: str) -> None:
    """Writes a picture of what the page shows.

    Raises:
        RuntimeError: It is too large.
    """
    picture = page.get_screenshot_as_png()
    if len(picture) > BYTES_MOST:
        raise RuntimeError(f"{name} has more than {BYTES_MOST:,} bytes")
    (HERE / name).write_bytes(picture)


def main() -> None:
    """Takes them all."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with tempfile.TemporaryDirectory() as name, running_mlflow_server(Path(name, "server")) as server:
        folder = Path(name)
        sweep(folder, server.uri)
        client = MlflowClient(tracking_uri=server.uri)
        experiment = client.get_experiment_by_name("cartpole-sweep")
        assert experiment is not None
        trial = next(run for run in client.search_runs([experiment.experiment_id]) if PARENT in run.data.tags)
        runs = f"{server.uri}/#/experiments/{experiment.experiment_id}/runs"
        with browser(folder / "profile") as page:
            page.get(runs)
            (unfold,) = awaited(page, UNFOLD)
            awaited(page, CLOSE)[0].click()
            unfold.click()
            awaited(page, ROW, 1 + TRIALS)
            save(page, "mlflow_sweep.png")
            page.get(f"{runs}/{trial.info.run_id}/artifacts")
            for folder_name in ("models", "checkpoint"):
                awaited(page, f"[data-testid='artifact-tree-node'][aria-label='{folder_name}']")[0].click()
            save(page, "mlflow_trial.png")


if __name__ == "__main__":
    main()
