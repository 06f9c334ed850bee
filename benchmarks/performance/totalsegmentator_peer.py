"""The TotalSegmentator package itself, in a process of its own.

``python -m voxfleet.benchmarks.performance.totalsegmentator_peer CALLS.json`` makes calls of its
`python_api.totalsegmentator`, one after the other; with ``PASSES.json ARGUMENTS...`` it is its command line,
which also writes what the network's forward passes took.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

_DECLARE_OPERATORS = '''"""Lets a torchvision built for another torch be imported: its operators are declared."""
import sys


class DeclareOperators:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            import torch

            sys.meta_path.remove(self)
            self.library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                self.library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            torch.voxfleet_benchmark = self


sys.meta_path.insert(0, DeclareOperators())
'''


@cache
def _torchvision_is_broken() -> bool:
    done = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, check=False)
    return done.returncode != 0


def environment(home: Path) -> dict[str, str]:
    """Environment in which the package runs.

    nnU-Net imports torchvision when it loads any network, by way of a trainer that needs it. Where the
    installed torchvision is not of the installed torch, that fails; such a one is helped along.

    Parameters
    ----------
    home : Path
        Its ``TOTALSEG_HOME_DIR``.
    """
    paths = [os.environ.get("PYTHONPATH", "")]
    if _torchvision_is_broken():
        folder = home / "sitecustomize"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(_DECLARE_OPERATORS)
        paths.insert(0, str(folder))
    path = os.pathsep.join(filter(None, paths))
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TOTALSEG_", "nnUNet_"))}
    return {**own, "TOTALSEG_HOME_DIR": str(home), "PYTHONPATH": path}


def call(home: Path, calls: Sequence[Mapping[str, Any]]) -> None:
    """Make calls of the package's `python_api.totalsegmentator`.

    Parameters
    ----------
    home : Path
        Its ``TOTALSEG_HOME_DIR``.
    calls : sequence of mappings
        Arguments of each call, as JSON takes them.
    """
    file = home / "calls.json"
    file.write_text(json.dumps([dict(each) for each in calls]))
    subprocess.run([sys.executable, "-m", __name__, str(file)], env=environment(home), check=True)


class ForwardPasses:
    """Seconds that a function took, over all its calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.wall_s, self.cpu_s = function, 0.0, 0.0

    def __call__(self, *arguments: Any) -> Any:
        """Call the function, timed."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = self.function(*arguments)
        self.wall_s += time.perf_counter() - wall
        self.cpu_s += time.process_time() - cpu
        return result


def command_line(home: Path, passes: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a call of the package's command line.

    Parameters
    ----------
    home : Path
        Its ``TOTALSEG_HOME_DIR``.
    passes : Path
        Gets wall and CPU seconds of the network's forward passes.
    arguments : str
        Of ``TotalSegmentator``.
    """
    return [sys.executable, "-m", __name__, str(passes), *arguments], environment(home)


def _run_command_line(passes: Path) -> None:
    """The package's command line, with its forward passes timed."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from totalsegmentator.bin import TotalSegmentator

    timed = ForwardPasses(nnUNetPredictor._internal_maybe_mirror_and_predict)  # noqa: SLF001 - has no public name

    def forward(predictor: Any, tile: Any) -> Any:
        return timed(predictor, tile)

    nnUNetPredictor._internal_maybe_mirror_and_predict = forward  # noqa: SLF001
    TotalSegmentator.main()
    passes.write_text(json.dumps({"wall_s": timed.wall_s, "cpu_s": timed.cpu_s}))


def main() -> None:
    """Make the calls of a file, or one of the command line."""
    from totalsegmentator.python_api import totalsegmentator

    _, file, *arguments = sys.argv
    if arguments:
        sys.argv = ["TotalSegmentator", *arguments]
        _run_command_line(Path(file))
        return
    for each in json.loads(Path(file).read_text()):
        totalsegmentator(**each)


if __name__ == "__main__" and sys.argv[1:]:  # without arguments it is not asked for: `make bench` runs every file
    main()
