"""`heteroloco eval` against lm-evaluation-harness, on the same checkpoints and the same files.

Makes documents in each shape that `heteroloco eval` reads, and for each of three tokenizers a
checkpoint with random parameters. The harness gets the exported checkpoint, and its own tasks with
the files in place of their data sets. Prints the figures side by side, and how far apart the
log-likelihoods of the choices are at most.
"""

import argparse
import json
import math
import os
import pathlib
import random
import subprocess
import sys

WORDS = (
    "river stone 5 of the a quick brown naïve jumps über lazy dog; it's 3.14 日本語 then that, "
    "running [step] he She MIXED over under (never) “quoted” 1969 — end. é ab\u00adcd"
).split()


class Documents:
    """Documents drawn from a seed, a list of them for each shape."""

    def __init__(self, seed, count):
        self.random = random.Random(seed)
        self.count = count

    def text(self, least, most):
        words = self.random.choices(WORDS, k=self.random.randint(least, most))
        joined = " ".join(words)
        # Doubled spaces, and long runs that one window does not hold.
        return joined.replace(" of ", "  of ") if self.random.random() < 0.5 else joined

    def choices(self, count):
        return [self.text(1, 7) for _ in range(count)]

    def hellaswag(self):
        return {
            "ind": self.random.randint(0, 99),
            "activity_label": self.text(1, 3),
            "ctx_a": self.text(2, 12) + self.random.choice(["", " [title]", " [header] x", " "]),
            "ctx_b": self.random.choice(["", "the MAN is", "élan", self.text(1, 4)]),
            "endings": [
                self.random.choice(["", " [substeps] "]) + choice for choice in self.choices(4)
            ],
            "label": str(self.random.randint(0, 3)),
        }

    def arc(self):
        count = self.random.randint(3, 5)
        labels = list(self.random.choice(["ABCDE", "12345"])[:count])
        return {
            "question": self.text(3, 30),
            "choices": {"text": self.choices(count), "label": labels},
            "answerKey": self.random.choice(labels),
        }

    def mmlu(self):
        return {
            "subject": "high_school_us_history",
            "question": self.random.choice(["", " "]) + self.text(3, 20) + "\n",
            "choices": self.choices(4),
            "answer": self.random.randint(0, 3),
        }

    def plain(self):
        count = self.random.randint(2, 6)
        return {
            "query": self.random.choice(["", self.text(1, 60), self.text(2, 4) + "  "]),
            "choices": self.choices(count),
            "gold": self.random.randrange(count),
        }

    def text_alone(self):
        return {"text": self.random.choice(["", "\n "]) + self.text(1, 200)}

    def write(self, folder):
        makers = {
            "hellaswag": self.hellaswag,
            "arc": self.arc,
            "mmlu": self.mmlu,
            "plain": self.plain,
            "texts": self.text_alone,
        }
        paths = {}
        for name, make in makers.items():
            paths[name] = folder / f"{name}.jsonl"
            lines = [json.dumps(make(), ensure_ascii=False) for _ in range(self.count)]
            paths[name].write_text("\n".join(lines) + "\n", encoding="utf-8")
        return paths


def tokenizers(folder):
    """`byte`, a byte-level BPE, and one whose words begin with a mark for the space before them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    text = [" ".join(WORDS), "Question: Answer: The following are multiple choice questions"] * 9
    level = Tokenizer(models.BPE())
    level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    level.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    end = ["<|endoftext|>"]
    level.train_from_iterator(
        text, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, special_tokens=end)
    )
    saved = {"byte": "byte"} | {name: folder / f"{name}.json" for name in ("byte-level", "marked")}
    level.save(str(saved["byte-level"]))
    marked = Tokenizer(models.BPE(unk_token="<unk>"))
    marked.pre_tokenizer = pre_tokenizers.Metaspace()
    marked.decoder = decoders.Metaspace()
    special = ["<unk>", "</s>"]
    marked.train_from_iterator(text, trainers.BpeTrainer(vocab_size=300, special_tokens=special))
    marked.save(str(saved["marked"]))
    return saved


def harness_tasks(paths):
    """The harness's own tasks, with local files in place of their data sets."""
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    own = pathlib.Path(lm_eval.tasks.__file__).parent
    metrics = [
        {"metric": name, "aggregation": "mean", "higher_is_better": True}
        for name in ("acc", "acc_norm", "acc_bytes")
    ]
    tasks = {
        "hellaswag": load_yaml(own / "hellaswag/hellaswag.yaml"),
        "arc": load_yaml(own / "arc/arc_easy.yaml"),
        "mmlu": load_yaml(own / "mmlu/default/mmlu_high_school_us_history.yaml"),
        "plain": {
            "output_type": "multiple_choice",
            "doc_to_text": "{{query}}",
            "doc_to_choice": "choices",
            "doc_to_target": "gold",
        },
        "texts": {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [
                {"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")
            ],
        },
    }
    for name, task in tasks.items():
        for key in ("tag", "task_alias", "dataset_name", "fewshot_split", "fewshot_config"):
            task.pop(key, None)
        task["task"] = f"local_{name}"
        task["dataset_path"] = "json"
        task["dataset_kwargs"] = {"data_files": {"test": str(paths[name])}}
        task["training_split"] = task["validation_split"] = None
        task["test_split"] = "test"
        if name != "texts":
            task["metric_list"] = metrics
    return tasks


def harness(folder, paths):
    """For each file its metrics, and the log-likelihoods of its documents in order."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1)
    tasks = list(harness_tasks(paths).values())
    found = lm_eval.simple_evaluate(
        model=model, tasks=tasks, log_samples=True, bootstrap_iters=2, verbosity="ERROR"
    )
    results = {}
    for name in paths:
        samples = sorted(found["samples"][f"local_{name}"], key=lambda sample: sample["doc_id"])
        values = [
            [answer[0] if isinstance(answer, (list, tuple)) else answer for answer in answers]
            for answers in ([flat(resp) for resp in sample["resps"]] for sample in samples)
        ]
        results[name] = found["results"][f"local_{name}"], values
    return results


def flat(response):
    """The harness gives one response to each request, in a list."""
    while isinstance(response, list) and len(response) == 1:
        response = response[0]
    return response


def programs(folder, name, arguments):
    command = [str(folder / name), *map(str, arguments)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}")
    return done.stdout.strip()


def own_results(folder, checkpoint, paths, out):
    arguments = ["eval", "--checkpoint", checkpoint, "--json", out]
    for path in paths.values():
        arguments += ["--tasks", path]
    programs(folder, "heteroloco", arguments)
    report = json.loads(out.read_text(encoding="utf-8"))
    results = {}
    for name, task in zip(paths, report["tasks"], strict=True):
        values = [document["logLikelihoods"] for document in task["documents"]]
        results[name] = task["score"], values
    return results


class Comparison:
    """The rows of the table, and the largest differences so far."""

    def __init__(self):
        self.likelihood = self.metric = self.perplexity = 0.0
        self.compared = 0

    def row(self, tokenizer, name, own, theirs):
        (score, values), (results, expected) = own, theirs
        worst = 0.0
        for mine, other in zip(values, expected, strict=True):
            for a, b in zip(mine, other, strict=True):
                worst = max(worst, abs(a - b))
                self.compared += 1
        self.likelihood = max(self.likelihood, worst)
        for metric, value in score.items():
            if isinstance(value, dict):
                stderr = results[f"{metric}_stderr,none"]
                pairs = [(metric, value["value"], results[f"{metric},none"])]
                if value["stderr"] is not None and stderr != "N/A":
                    pairs.append((f"{metric}_stderr", value["stderr"], stderr))
                self.metric = max([self.metric] + [abs(a - b) for _, a, b in pairs])
            else:
                pairs = [(metric, value, results[f"{metric},none"])]
                self.perplexity = max(self.perplexity, abs(math.log(value / pairs[0][2])))
            for shown, a, b in pairs:
                print(f"{tokenizer:<11} {name:<10} {shown:<16} {a:>14.6f} {b:>14.6f} {worst:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="new folder")
    parser.add_argument("--count", type=int, default=25, help="documents of each shape")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    # Nothing is downloaded, and nothing is left in the user's cache.
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(arguments.out / "cache"),
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }
    paths = Documents(7, arguments.count).write(arguments.out)
    comparison = Comparison()
    print("tokenizer   file       metric               heteroloco        harness largest Δ ll")
    for name, tokenizer in tokenizers(arguments.out).items():
        folder = arguments.out / name
        making = ["--tokenizer", tokenizer, "--out", folder]
        checkpoint = programs(arguments.programs, "random-checkpoint", making)
        exported = folder / "exported"
        exporting = ["export", "--checkpoint", checkpoint, "--out", exported]
        programs(arguments.programs, "heteroloco", exporting)
        own = own_results(arguments.programs, checkpoint, paths, folder / "own.json")
        theirs = harness(exported, paths)
        for file in paths:
            comparison.row(name, file, own[file], theirs[file])
    print(f"figure eval.compared {comparison.compared} -")
    print(f"figure eval.max_difference.log_likelihood {comparison.likelihood:.2e} nats")
    print(f"figure eval.max_difference.accuracy {comparison.metric:.2e} -")
    print(f"figure eval.max_difference.perplexity {comparison.perplexity:.2e} nats")
    if max(comparison.metric, comparison.perplexity) > 1e-4 or comparison.likelihood > 1e-2:
        sys.exit("the figures differ: see the table")


if __name__ == "__main__":
    main()
