# Copyright 2026 The transformers-crossvit authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Stand-in: starts the processes of the distributed tests, on the CPU with gloo."""

import multiprocessing
import os
import socket

import torch
import torch.distributed as dist


# Processes are forked from one that has imported everything, because imports would take most of their time.
multiprocessing.set_forkserver_preload(
    ["tests.test_fsdp_mixin", "tests.test_tensor_parallel_mixin", "tokens_as_images"]
)


def _get_distributed_device_type():
    return "cpu"


def _get_distributed_backend():
    return "gloo"


def _get_rank_device(rank):
    return torch.device("cpu")


def _set_rank_device(rank):
    pass


def _start_rank_processes(function, args, nprocs):
    torch.multiprocessing.start_processes(function, args=args, nprocs=nprocs, start_method="forkserver")


def _run_rank(rank, function, args, world_size, port):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size))
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    try:
        function(rank, *args)
    finally:
        dist.destroy_process_group()


def run_distributed(world_size):
    """`run_distributed(2)(function)(*args)` calls `function(rank, *args)` in two processes of one group."""

    def bind(function):
        def run(*args):
            with socket.socket() as server:
                server.bind(("localhost", 0))
                port = server.getsockname()[1]
            _start_rank_processes(_run_rank, (function, args, world_size, port), nprocs=world_size)

        return run

    return bind
