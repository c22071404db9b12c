"""One rank of PyTorch's Gloo all-reduce, driven by bench/src/bin/allreduce.rs.

Arguments: rank, world size, path of the rendezvous file. For each line "VALUES REPEATS" on standard
input it runs that many all-reduces and prints the seconds of wall and CPU time they took.
"""

import os
import sys
import time

os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")

import torch
import torch.distributed as dist


def main():
    rank, world, rendezvous = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    print("ready", flush=True)
    for line in sys.stdin:
        values, repeats = map(int, line.split())
        tensor = torch.full((values,), float(rank + 1))
        dist.all_reduce(tensor)
        assert tensor[0].item() == tensor[-1].item() == world * (world + 1) / 2
        tensor.zero_()
        dist.barrier()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(repeats):
            dist.all_reduce(tensor)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(wall, cpu, flush=True)


main()
