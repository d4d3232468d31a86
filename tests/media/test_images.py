from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rl_logging.media import MediaError, dump_image, materialize
from rl_logging.records import Image


def read_back(image: object, run_dir: Path) -> np.ndarray:
    """Dumps `image` and returns the pixels of the PNG that is delivered."""
    name = dump_image(image, run_dir / "media", "step_1")
    path = materialize(run_dir, Image(seq=1, time=0.0, name="x", path=f"media/{name}"))
    assert path == run_dir / "media" / "step_1.png"
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["step_1.png"], "something is left lying about"
    with PIL.Image.open(path) as opened:
        assert opened.format == "PNG"
        return np.asarray(opened)


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


GREY, RGB, RGBA = pixels(9, 14), pixels(9, 14, 3), pixels(9, 14, 4)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (GREY, GREY),
        (RGB, RGB),
        (RGBA, RGBA),
        (GREY[..., None], GREY),
        (GREY[None], GREY),
        (RGB.transpose(2, 0, 1), RGB),
        (np.ascontiguousarray(RGB.transpose(2, 0, 1)), RGB),
        (np.ascontiguousarray(RGBA.transpose(2, 0, 1)), RGBA),
        (RGB[::-1, ::2], RGB[::-1, ::2]),
        (np.asfortranarray(RGB), RGB),
        (RGB.astype(np.int64), RGB),
        (RGB.astype(np.uint16), RGB),
        (GREY.tolist(), GREY),
        ((RGB / 255).astype(np.float32), RGB),
        (RGB / 255, RGB),
        (RGB / 255 * (1 + 5e-4), RGB),
        (GREY > 100, (GREY > 100) * np.uint8(255)),
        (torch.from_numpy(RGB), RGB),
        (torch.from_numpy(RGB).permute(2, 0, 1), RGB),
        (torch.from_numpy(RGB / 255).permute(2, 0, 1).contiguous().requires_grad_(), RGB),
        (torch.from_numpy(GREY > 100), (GREY > 100) * np.uint8(255)),
        (torch.ones(3, 8, 8, dtype=torch.bfloat16), np.full((8, 8, 3), 255, np.uint8)),
        (pixels(1, 1, 3), pixels(1, 1, 3)),
    ],
)
def test_every_form_of_a_picture_is_read_back_pixel_by_pixel(
    image: object, expected: np.ndarray, tmp_path: Path
) -> None:
    np.testing.assert_array_equal(read_back(image, tmp_path), expected)


def test_where_both_readings_fit_numpy_has_channels_last_and_torch_first(tmp_path: Path) -> None:
    both = pixels(3, 20, 3)
    np.testing.assert_array_equal(read_back(both, tmp_path / "numpy"), both)
    np.testing.assert_array_equal(read_back(torch.from_numpy(both), tmp_path / "torch"), both.transpose(1, 2, 0))


@pytest.mark.parametrize("width", [1, 3, 4])
def test_channels_first_with_a_width_that_looks_like_channels(width: int, tmp_path: Path) -> None:
    first = torch.from_numpy(pixels(3, 20, width))
    expected = first.permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(read_back(first, tmp_path), expected)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((5, 6, 2)), ["(5, 6, 2)", "(H, W, C)"]),
        (np.zeros(5), ["(5,)", "(H, W)"]),
        (np.zeros((2, 3, 4, 5)), ["(2, 3, 4, 5)"]),
        (np.zeros((0, 5, 3)), ["(0, 5, 3)", "high"]),
        (np.full((4, 5, 3), 200.0), ["200", "[0, 1]", "255"]),
        (np.linspace(-3, 1, 60).reshape(4, 5, 3), ["-3", "[0, 1]", "x.min()"]),
        (np.full((4, 5), np.nan), ["NaN", "[0, 1]"]),
        (np.full((4, 5), np.inf), ["inf"]),
        (np.full((4, 5), 256, np.int32), ["256", "0..255"]),
        (np.full((4, 5), -1), ["-1", "0..255"]),
        (np.zeros((4, 5), complex), ["complex128"]),
        (np.array([["a"]]), ["ndarray", "<U1"]),
        ([[1, 2], [3]], ["list"]),
        (None, ["NoneType"]),
        ({}, ["dict"]),
        (object(), ["object"]),
        ("nowhere.png", ["nowhere.png"]),
        (Path("nowhere.png"), ["nowhere.png"]),
    ],
)
def test_what_is_no_picture_is_told(image: object, says: list[str], tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        dump_image(image, tmp_path / "media", "x")
    for word in says:
        assert word in str(caught.value)
    assert not (tmp_path / "media").exists() or not list((tmp_path / "media").iterdir())


def _saved(mode: str, **options: Any) -> Callable[[Path], np.ndarray]:
    def save(path: Path) -> np.ndarray:
        picture = PIL.Image.fromarray(RGB).convert(mode)
        picture.save(path, **options)
        return np.asarray(picture)

    return save


@pytest.mark.parametrize(
    ("file", "save"),
    [
        ("a.png", _saved("RGB")),
        ("misnamed.jpg", _saved("RGB", format="PNG")),
        ("b.bmp", _saved("RGB")),
        ("c.webp", _saved("RGB", lossless=True)),
        ("d.tiff", _saved("L")),
        ("e.ppm", _saved("RGB")),
    ],
)
def test_a_path_becomes_a_png(file: str, save: Callable[[Path], np.ndarray], tmp_path: Path) -> None:
    expected = save(tmp_path / file)
    source = (tmp_path / file).read_bytes()
    np.testing.assert_array_equal(read_back(str(tmp_path / file), tmp_path / "run"), expected)
    assert (tmp_path / file).read_bytes() == source


def test_a_png_is_kept_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PIL.Image.fromarray(RGB).save(path, compress_level=0)
    name = dump_image(path, tmp_path / "media", "s")
    assert (tmp_path / "media" / name).read_bytes() == path.read_bytes()


def test_a_jpeg_is_turned_upright(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    PIL.Image.fromarray(pixels(8, 20, 3)).save(tmp_path / "a.jpg", exif=exif)
    assert read_back(tmp_path / "a.jpg", tmp_path / "run").shape == (20, 8, 3)


def test_a_file_that_is_no_picture_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(MediaError, match=r"is no picture: it may be png, jpeg"):
        dump_image(tmp_path / "a.png", tmp_path / "media", "s")


@pytest.mark.parametrize(
    ("mode", "stored"),
    [
        *[("1", "L"), ("L", "L"), ("LA", "RGBA"), ("P", "RGB"), ("RGB", "RGB"), ("RGBA", "RGBA"), ("CMYK", "RGB")],
        *[("YCbCr", "RGB"), ("HSV", "RGB"), ("I", "I")],
    ],
)
def test_pil_images(mode: str, stored: str, tmp_path: Path) -> None:
    image = PIL.Image.fromarray(RGB).convert(mode)
    np.testing.assert_array_equal(read_back(image, tmp_path), np.asarray(image.convert(stored)))


def test_wide_pil_images_are_judged_like_arrays(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="60000"):
        dump_image(PIL.Image.new("I", (3, 3), 60_000), tmp_path, "s")


def test_a_figure_is_rendered_now_without_pyplot(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from matplotlib.figure import Figure
from rl_logging.media import dump_image
figure = Figure(figsize=(2, 1.5), dpi=80)
figure.add_subplot().plot([0, 1], color="red")
canvas = figure.canvas
dump_image(figure, Path(sys.argv[1]), "s")
assert figure.canvas is canvas and figure.dpi == 80
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=180)
    with PIL.Image.open(tmp_path / "s.png") as opened:
        assert opened.size == (160, 120)
        red = (np.asarray(opened.convert("RGB")) == [255, 0, 0]).all(axis=-1)
    assert red.sum() > 50


def test_an_open_pyplot_figure_stays_as_it_is(tmp_path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    other = plt.figure()
    axes.plot([1, 2])
    canvas = figure.canvas
    before = io.BytesIO()
    figure.savefig(before, format="png")
    dump_image(figure, tmp_path, "s")
    assert plt.gcf() is other
    assert figure.canvas is canvas
    after = io.BytesIO()
    figure.savefig(after, format="png")
    assert before.getvalue() == after.getvalue()
    plt.close("all")


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6)), st.booleans())
def test_any_small_shape_is_kept_or_refused(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, tensor: bool
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    image: Any = torch.from_numpy(array.copy()) if tensor else array
    first, last = array.shape[0] in (1, 3, 4), array.shape[-1] in (1, 3, 4)
    if not (first or last):
        with pytest.raises(MediaError):
            dump_image(image, run_dir, "s")
        return
    turned = first and (tensor or not last)
    expected = array.transpose(1, 2, 0) if turned else array
    back = read_back(image, run_dir)
    np.testing.assert_array_equal(back if back.ndim == 3 else back[..., None], expected)


@pytest.mark.skipif(os.name != "posix", reason="needs signals that kill")
def test_a_process_killed_while_it_dumps_leaves_no_half_file(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from rl_logging.media import dump_image
dump_image(np.full((90, 90, 3), 200, np.uint8), Path(sys.argv[1]), "whole")
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # kills it in the middle of the write
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
dump_image(np.full((300, 300, 3), 200, np.uint8), Path(sys.argv[1]), "half")
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "media")], timeout=180, check=False)
    assert done.returncode == -signal.SIGXFSZ
    left = [path for path in (tmp_path / "media").iterdir() if path.stat().st_size == 100_000]
    assert len(left) == 1, "it was not killed while it wrote"
    assert not list((tmp_path / "media").glob("half*"))
    path = materialize(tmp_path, Image(seq=1, time=0.0, name="x", path="media/whole.png"))
    with PIL.Image.open(path) as opened:
        assert opened.getpixel((89, 89)) == (200, 200, 200)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_disk_is_an_oserror_and_leaves_nothing(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from rl_logging.media import dump_image, dump_video
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for dump in (lambda: dump_image(np.zeros((300, 300, 3), np.uint8), Path(sys.argv[1]), "s"),
             lambda: dump_video(np.zeros((9, 300, 300, 3), np.uint8), Path(sys.argv[1]), "v", 30)):
    try:
        dump()
    except OSError as error:
        print(error.errno)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m")], capture_output=True, text=True, timeout=180, check=True
    )
    assert done.stdout.split() == ["27", "27"]
    assert list((tmp_path / "m").iterdir()) == []
