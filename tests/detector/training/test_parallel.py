"""Two processes on this machine, as `torchrun` starts them."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from detector.bundles.model_card import MEMBER, WEIGHTS
from detector.errors import SettingsError
from detector.training.out_folder import LOG
from detector.training.parallel import Group

ROOT = Path(__file__).parents[3]


def test_one_process_is_a_group_of_its_own() -> None:
    with Group() as group:
        assert (group.rank, group.size, group.first) == (0, 1, True)
        assert list(range(10))[group.share(10)] == list(range(10))
        assert group.device("auto") == "auto"
        assert group.mean(torch.tensor(3.5)) == 3.5
        with group.in_turn():
            pass


def _work(rank: int, port: int, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with Group() as group:
        network = nn.Linear(3, 2)
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, 1.0 + 2 * rank)
        group.average_gradients(network)
        with group.in_turn(), open(folder / "turns", "a") as turns:
            turns.write(f"{rank}\n")
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        said = {
            "gradients": [gradient.flatten().tolist() for gradient in gradients],
            "mean": group.mean(torch.tensor(float(rank))),
            "share": list(range(6))[group.share(6)],
        }
        try:
            group.share(7)
        except SettingsError as error:
            said["refused"] = str(error)
        (folder / f"{rank}.json").write_text(json.dumps(said))


def test_two_processes_share_the_work(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work, args=(rank, port, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["gradients"] == second["gradients"] == [[2.0] * 6, [2.0] * 2]
    assert first["mean"] == second["mean"] == 0.5
    assert (first["share"], second["share"]) == ([0, 2, 4], [1, 3, 5])
    assert first["refused"] == "a batch of 7 cannot be shared evenly by 2 processes"
    assert (tmp_path / "turns").read_text() == "0\n1\n"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_torchrun_trains_one_network(
    painted: Path, training: Path, tiny_weights: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    files = ["--config", training, "--data", painted, "--weights", tiny_weights[0], "--out", out]
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *("-m", "detector.commands.train", "regions", *map(str, files)),
            *("--cache", str(painted.parent), "--validation", str(painted)),
            *("--device", "cpu", "--backend", "torch"),
        ],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        timeout=300,
        capture_output=True,
    )
    assert (out / WEIGHTS).exists()
    assert json.loads((out / MEMBER).read_text())["training"]["scores"]["images"] == 4
    steps = [json.loads(line)["step"] for line in (out / LOG).read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 6]
