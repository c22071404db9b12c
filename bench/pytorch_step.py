"""A training step of transformers' LlamaForCausalLM in PyTorch, on request.

Reads one command a line from standard input and answers each with one line of JSON:
  step TOKENS_FILE BATCH COUNT   COUNT steps on [BATCH, length + 1] int64 tokens; {"seconds": …}
  logits TOKENS_FILE OUT_FILE    logits of one sequence, written as float32
"""

import argparse
import json
import sys
import time

import numpy
import torch
from transformers import LlamaForCausalLM


def read_tokens(path, batch):
    tokens = numpy.fromfile(path, dtype=numpy.int64)
    return torch.from_numpy(tokens).view(batch, -1)


class Trainer:
    """Everything in float32."""

    def __init__(self, folder, fused):
        self.model = LlamaForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa"
        )
        self.model.train()
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        vectors = [p for p in self.model.parameters() if p.dim() == 1]
        groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=fused
        )

    def loss(self, inputs, targets):
        logits = self.model(input_ids=inputs, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def step(self, inputs, targets):
        loss = self.loss(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def steps(self, path, batch, count):
        tokens = read_tokens(path, int(batch))
        inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        started = time.perf_counter()
        for _ in range(int(count)):
            loss = self.step(inputs, targets)
        return {"seconds": time.perf_counter() - started, "loss": loss}

    def logits(self, path, out):
        with torch.no_grad():
            logits = self.model(input_ids=read_tokens(path, 1), use_cache=False).logits
        logits.numpy().tofile(out)
        return {}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--fused", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    trainer = Trainer(arguments.folder, bool(arguments.fused))
    commands = {"step": trainer.steps, "logits": trainer.logits}
    print(json.dumps({"torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        name, *rest = line.split()
        print(json.dumps(commands[name](*rest)), flush=True)


if __name__ == "__main__":
    main()
