"""A training step of the same Llama in PyTorch, eager or compiled: what check.py compares with.

Written against torch alone. As in `heteroloco-worker`, parameters, gradients, moments, norms,
residuals and the softmax are float32, and on a card the large products are bfloat16. Prints
lines of JSON: {"compileSeconds": …} after the first turn where compiled, {"tokensPerSecond": …,
"peakBytes": …} at the end.
"""

import argparse
import json
import time

import torch
from torch import nn
from torch.nn import functional


class Norm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x):
        return functional.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


def turned(x, cosine, sine):
    one, other = x.chunk(2, dim=-1)
    return (x * cosine + torch.cat((-other, one), dim=-1) * sine).to(x.dtype)


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, wide = config["hidden_size"], config["intermediate_size"]
        self.heads, self.groups = config["num_attention_heads"], config["num_key_value_heads"]
        self.width = config.get("head_dim") or hidden // self.heads
        query, key = self.heads * self.width, self.groups * self.width
        self.before = Norm(hidden, config["rms_norm_eps"])
        self.query_key_value = nn.Linear(hidden, query + 2 * key, bias=False)
        self.output = nn.Linear(query, hidden, bias=False)
        self.between = Norm(hidden, config["rms_norm_eps"])
        self.gate_up = nn.Linear(hidden, 2 * wide, bias=False)
        self.down = nn.Linear(wide, hidden, bias=False)
        self.sizes = (query, key, key)

    def forward(self, x, cosine, sine):
        batch, length, _ = x.shape
        parts = self.query_key_value(self.before(x)).split(self.sizes, dim=-1)
        query, key, value = (
            part.view(batch, length, -1, self.width).transpose(1, 2) for part in parts
        )
        query, key = turned(query, cosine, sine), turned(key, cosine, sine)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=self.groups < self.heads
        )
        x = x + self.output(mixed.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.between(x)).chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)


class Llama(nn.Module):
    def __init__(self, config):
        super().__init__()
        vocabulary, hidden = config["vocab_size"], config["hidden_size"]
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config["num_hidden_layers"]))
        self.norm = Norm(hidden, config["rms_norm_eps"])
        self.head = nn.Linear(hidden, vocabulary, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=config["initializer_range"])
        if config["tie_word_embeddings"]:
            self.head.weight = self.embedding.weight
        self.base, self.width = config["rope_theta"], self.blocks[0].width

    def angles(self, length, device):
        steps = torch.arange(0, self.width, 2, device=device, dtype=torch.float32)
        turns = torch.outer(
            torch.arange(length, device=device, dtype=torch.float32),
            self.base ** (-steps / self.width),
        )
        both = torch.cat((turns, turns), dim=-1)
        return both.cos(), both.sin()

    def loss_of(self, x, targets):
        logits = self.head(self.norm(x)).flatten(0, 1)
        return functional.cross_entropy(logits.float(), targets.flatten())

    def forward(self, inputs, targets):
        cosine, sine = self.angles(inputs.shape[1], inputs.device)
        x = self.embedding(inputs)
        for block in self.blocks:
            x = block(x, cosine, sine)
        return self.loss_of(x, targets)

    def compile_parts(self):
        """Blocks that are alike are compiled once, so that compiling takes seconds at any depth."""
        for block in self.blocks:
            block.compile()
        self.loss_of = torch.compile(self.loss_of)


class Trainer:
    def __init__(self, arguments):
        self.device, self.is_half = torch.device(arguments.device), arguments.half
        torch.manual_seed(1)
        config = json.loads(arguments.config)
        with self.device:
            self.model = Llama(config)
        if arguments.compiled:
            self.model.compile_parts()
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        vectors = [p for p in self.model.parameters() if p.dim() == 1]
        groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True
        )
        shape = (arguments.batch, arguments.length + 1)
        tokens = torch.randint(config["vocab_size"], shape, device=self.device)
        self.inputs, self.targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def step(self):
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_half):
            loss = self.model(self.inputs, self.targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def turn(self, steps):
        started = time.perf_counter()
        for _ in range(steps):
            self.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="LlamaConfig's keys, JSON")
    parser.add_argument("--device", required=True)
    for name in ("batch", "length", "steps", "turns"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--half", action="store_true", help="products in bfloat16")
    parser.add_argument("--compiled", action="store_true")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    trainer = Trainer(arguments)
    first = trainer.turn(arguments.steps)
    if arguments.compiled:
        print(json.dumps({"compileSeconds": first}), flush=True)
    turns = sorted(trainer.turn(arguments.steps) for _ in range(arguments.turns))
    tokens = arguments.batch * arguments.length * arguments.steps
    peak = torch.cuda.max_memory_reserved() if trainer.device.type == "cuda" else None
    rate = tokens / turns[len(turns) // 2]
    print(json.dumps({"tokensPerSecond": rate, "peakBytes": peak}), flush=True)


if __name__ == "__main__":
    main()
