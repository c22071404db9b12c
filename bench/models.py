"""`model: {from: FOLDER}` against transformers, over folders as people have them.

Makes small folders in Hugging Face's form, each with one peculiarity, and compares the held-out
loss before the first round of `heteroloco up` with the one that transformers computes on the same
tokens. A folder passes where the two are equal within 1e-3, or where the table says that it may be
refused and the refusal names what it is for.
"""

import argparse
import copy
import json
import os
import pathlib
import subprocess
import sys

LENGTH = 128
BOUND = 1e-3
HIDDEN, WIDE, LAYERS, HEADS, GROUPS, VOCABULARY = 64, 128, 2, 4, 2, 272
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": WIDE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
MISTRAL = LLAMA | {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
ABSENT = object()


class Folder:
    """A row of the table: keys of config.json, what is done to the tensors, how they are stored."""

    def __init__(self, name, keys=None, *, base=None, tensors=None, store=None, refused=None,
                 raw=None):
        self.name, self.store, self.tensors, self.raw = name, store or store_single, tensors, raw
        config = dict(base or LLAMA) | (keys or {})
        self.config = {key: value for key, value in config.items() if value is not ABSENT}
        # A word of the refusal; where it is None the folder has to be taken.
        self.refused = refused

    def write(self, folder):
        folder.mkdir()
        tensors = random_tensors(self.config)
        if self.tensors:
            tensors = self.tensors(tensors)
        text = json.dumps(self.config, indent=1)
        (folder / "config.json").write_text(self.raw(text) if self.raw else text, encoding="utf-8")
        self.store(folder, tensors)


def random_tensors(config):
    """Large enough that a head's attention is not the mean, so that every key shows in the loss."""
    import torch

    def number(key, default):
        value = config.get(key, default)
        return value if isinstance(value, int) else default

    heads = number("num_attention_heads", HEADS)
    default = 8 if config.get("model_type") == "mistral" and "num_key_value_heads" not in config \
        else heads
    groups = number("num_key_value_heads", default)
    width = number("head_dim", HIDDEN // heads)
    shapes = {EMBEDDING: (VOCABULARY, HIDDEN)}
    for layer in range(number("num_hidden_layers", LAYERS)):
        before = f"model.layers.{layer}."
        for name, shape in {
            "self_attn.q_proj": (heads * width, HIDDEN),
            "self_attn.k_proj": (groups * width, HIDDEN),
            "self_attn.v_proj": (groups * width, HIDDEN),
            "self_attn.o_proj": (HIDDEN, heads * width),
            "mlp.gate_proj": (WIDE, HIDDEN),
            "mlp.up_proj": (WIDE, HIDDEN),
            "mlp.down_proj": (HIDDEN, WIDE),
            "input_layernorm": (HIDDEN,),
            "post_attention_layernorm": (HIDDEN,),
        }.items():
            shapes[f"{before}{name}.weight"] = shape
    shapes |= {"model.norm.weight": (HIDDEN,), HEAD: (VOCABULARY, HIDDEN)}
    random = torch.Generator().manual_seed(3)
    made = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=random) * 0.25
        made[name] = 1 + values if len(shape) == 1 else values
    return made


def save(path, tensors):
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})


def store_single(folder, tensors):
    save(folder / "model.safetensors", tensors)


def store_index(folder, shards, places=None):
    index = {"metadata": {}, "weight_map": {}}
    for number, tensors in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save(folder / name, tensors)
        index["weight_map"] |= dict.fromkeys(tensors, name)
    index["weight_map"] |= places or {}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index), encoding="utf-8")


def store_sharded(folder, tensors):
    names = list(tensors)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    store_index(folder, [{name: tensors[name] for name in half} for half in halves])


def store_copies(first, second, named):
    """Both shards have the embedding, times these numbers; the index names one of them."""

    def store(folder, tensors):
        shards = [{EMBEDDING: tensors[EMBEDDING] * first},
                  tensors | {EMBEDDING: tensors[EMBEDDING] * second}]
        store_index(folder, shards, {EMBEDDING: f"model-0000{named}-of-00002.safetensors"})

    return store


def store_both(folder, tensors):
    """A single file beside an index of other values."""
    store_sharded(folder, {name: tensor * 2 for name, tensor in tensors.items()})
    store_single(folder, tensors)


def store_unlisted(folder, tensors):
    """The index does not say where the embedding is, though a shard has it."""
    store_sharded(folder, tensors)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    del index["weight_map"][EMBEDDING]
    path.write_text(json.dumps(index), encoding="utf-8")


def store_beside(folder, tensors):
    """A file that the index does not name has other values."""
    store_sharded(folder, tensors)
    save(folder / "old.safetensors", {name: tensor * 2 for name, tensor in tensors.items()})


def store_variant(folder, tensors):
    save(folder / "model.fp16.safetensors", tensors)


def store_missing_shard(folder, tensors):
    store_sharded(folder, tensors)
    (folder / "model-00002-of-00002.safetensors").unlink()


def store_linked(folder, tensors):
    blobs = folder.with_name(f"{folder.name}-blobs")
    blobs.mkdir()
    save(blobs / "0a1b2c", tensors)
    (folder / "model.safetensors").symlink_to(blobs / "0a1b2c")


def store_pickled(folder, tensors):
    import torch

    torch.save(tensors, folder / "pytorch_model.bin")


def without(*names):
    return lambda tensors: {name: t for name, t in tensors.items() if name not in names}


def tied(tensors):
    return tensors | {HEAD: tensors[EMBEDDING]}


def tied_head_only(tensors):
    return without(EMBEDDING)(tied(tensors))


def prefixless(tensors):
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


def prefixless_without_head(tensors):
    return prefixless(without(HEAD)(tensors))


def stored_as(kind):
    def convert(tensors):
        import torch

        return {name: tensor.to(getattr(torch, kind)) for name, tensor in tensors.items()}

    return convert


def mixed(tensors):
    import torch

    kinds = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
    kind = iter(kinds * len(tensors))
    return {name: tensor.to(next(kind)) for name, tensor in tensors.items()}


def with_tensor(name, *shape):
    def add(tensors):
        import torch

        return tensors | {name: torch.zeros(shape)}

    return add


def not_finite(tensors):
    values = tensors["model.norm.weight"].clone()
    values[3] = float("nan")
    return tensors | {"model.norm.weight": values}


def extra_layer(tensors):
    more = {
        name.replace("layers.1.", "layers.2."): tensor
        for name, tensor in tensors.items()
        if "layers.1." in name
    }
    return tensors | more


def rope_folders():
    theta, other = {"rope_theta": 500000.0}, {"rope_theta": 300.0}
    default = {"rope_type": "default"}
    parameters, scaling = "rope_parameters", "rope_scaling"
    yield Folder("rope absent")
    yield Folder("rope top level", theta)
    yield Folder("rope top level, an integer", {"rope_theta": 500000})
    yield Folder("rope parameters", {parameters: theta | default})
    yield Folder("rope parameters without type", {parameters: theta})
    yield Folder("rope scaling", {scaling: theta | default})
    yield Folder("rope scaling, old type", {scaling: theta | {"type": "default"}})
    yield Folder("rope both, the same", {parameters: theta | default, scaling: theta | default})
    yield Folder("rope both, differing", {parameters: theta | default, scaling: other | default})
    yield Folder("rope top level beside parameters", other | {parameters: theta | default})
    yield Folder("rope top level beside scaling", other | {scaling: theta | default})
    yield Folder("rope top level beside both", {
        "rope_theta": 77.0, parameters: theta | default, scaling: other | default})
    yield Folder("rope top level, parameters say nothing", other | {parameters: default})
    yield Folder("rope top level, parameters empty", other | {parameters: {}})
    yield Folder("rope top level, scaling null", other | {scaling: None})
    yield Folder("rope top level, both null", other | {scaling: None, parameters: None})
    yield Folder("rope scaling empty beside parameters", {scaling: {}, parameters: other | default})
    yield Folder("rope theta twice", raw=lambda text: text.replace(
        "{", '{"rope_theta": 5.0, "rope_theta": 300.0,', 1))
    yield Folder("rope theta null", {"rope_theta": None}, refused="rope_theta")
    yield Folder("rope theta a text", {"rope_theta": "300"}, refused="rope_theta")
    yield Folder("rope per layer type", {parameters: {
        "full_attention": theta | default, "sliding_attention": other | default}},
        refused="rope_parameters")
    yield Folder("rope partial", {"partial_rotary_factor": 0.5}, refused="partial_rotary_factor")
    yield Folder("rope partial inside", {parameters: theta | default | {
        "partial_rotary_factor": 0.5}}, refused="partial_rotary_factor")
    for kind, more in {
        "linear": {"factor": 2.0},
        "dynamic": {"factor": 2.0},
        "yarn": {"factor": 2.0, "original_max_position_embeddings": 256},
        "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                   "original_max_position_embeddings": 64},
    }.items():
        yield Folder(f"rope {kind}", theta | {scaling: {"rope_type": kind} | more},
                     refused="rope_scaling")
        yield Folder(f"rope {kind} in parameters", {parameters: {"rope_type": kind} | theta | more},
                     refused="rope_parameters")
    yield Folder("rope linear, old name", {scaling: {"type": "linear", "factor": 2.0}},
                 refused="rope_scaling")


def tensor_folders():
    is_tied = {"tie_word_embeddings": True}
    yield Folder("tied, both stored", is_tied, tensors=tied)
    yield Folder("tied, embedding stored", is_tied, tensors=without(HEAD))
    yield Folder("tied, head stored", is_tied, tensors=tied_head_only)
    yield Folder("tied, two that differ", is_tied, refused=HEAD)
    yield Folder("tie absent, both stored", {"tie_word_embeddings": ABSENT})
    yield Folder("tie absent, head missing", {"tie_word_embeddings": ABSENT},
                 tensors=without(HEAD), refused=HEAD)
    yield Folder("untied, head missing", tensors=without(HEAD), refused=HEAD)
    yield Folder("untied, embedding missing", tensors=without(EMBEDDING), refused=EMBEDDING)
    yield Folder("untied, equal", tensors=tied)
    yield Folder("tied, sharded", is_tied, tensors=tied, store=store_sharded)
    yield Folder("tied, head stored, sharded", is_tied, tensors=tied_head_only, store=store_sharded)
    yield Folder("tied, prefixless", is_tied, tensors=prefixless_without_head)
    yield Folder("prefixless with head", tensors=prefixless)
    yield Folder("prefixless without head", tensors=prefixless_without_head, refused=HEAD)
    yield Folder("prefixless, sharded", tensors=prefixless, store=store_sharded)
    yield Folder("sharded", store=store_sharded)
    yield Folder("sharded, a copy", store=store_copies(1, 1, 1))
    yield Folder("sharded, an old copy before", store=store_copies(2, 1, 2))
    yield Folder("sharded, an old copy after", store=store_copies(1, 2, 1), refused=EMBEDDING)
    yield Folder("sharded, a shard missing", store=store_missing_shard, refused="model-00002-of")
    yield Folder("sharded, the index is silent", store=store_unlisted, refused=EMBEDDING)
    yield Folder("sharded, an old file beside", store=store_beside)
    yield Folder("single beside index", store=store_both)
    yield Folder("a variant's name", store=store_variant, refused="model.safetensors")
    yield Folder("not finite", tensors=not_finite, refused="model.norm.weight")
    yield Folder("a head more", {"num_key_value_heads": HEADS},
                 tensors=lambda t: t | {"model.layers.0.self_attn.k_proj.weight":
                                        t["model.layers.0.self_attn.k_proj.weight"][:HIDDEN // 2]},
                 refused="model.layers.0.self_attn.k_proj.weight")
    yield Folder("linked into a cache", store=store_linked)
    yield Folder("pickled", store=store_pickled, refused="model.safetensors")
    for kind in ("bfloat16", "float16", "float32", "float64"):
        yield Folder(f"stored as {kind}", {"torch_dtype": kind}, tensors=stored_as(kind))
    yield Folder("stored as four kinds", {"dtype": "float32"}, tensors=mixed)
    yield Folder("stored as int32", tensors=stored_as("int32"), refused="I32")
    bias = "model.layers.0.self_attn.q_proj.bias"
    yield Folder("zero bias", tensors=with_tensor(bias, HIDDEN), refused=bias)
    yield Folder("rotary buffers", tensors=with_tensor(
        "model.layers.0.self_attn.rotary_emb.inv_freq", HIDDEN // HEADS // 2))
    yield Folder("a layer too many", tensors=extra_layer, refused="model.layers.2.")
    yield Folder("a layer too few", tensors=without(
        "model.layers.1.mlp.up_proj.weight"), refused="model.layers.1.mlp.up_proj")
    yield Folder("a stranger", tensors=with_tensor("score.weight", 2, HIDDEN), refused="score")


def key_folders():
    yield Folder("heads absent", {"num_key_value_heads": ABSENT})
    yield Folder("heads null", {"num_key_value_heads": None})
    yield Folder("epsilon absent", {"rms_norm_eps": ABSENT})
    yield Folder("large epsilon", {"rms_norm_eps": 0.5})
    yield Folder("activation absent", {"hidden_act": ABSENT})
    yield Folder("activation swish", {"hidden_act": "swish"})
    yield Folder("activation gelu", {"hidden_act": "gelu"}, refused="hidden_act")
    yield Folder("head width", {"head_dim": 32})
    yield Folder("head width null", {"head_dim": None})
    yield Folder("range absent", {"initializer_range": ABSENT})
    yield Folder("attention bias", {"attention_bias": True}, refused="attention_bias")
    yield Folder("feed-forward bias", {"mlp_bias": True}, refused="mlp_bias")
    yield Folder("no bias", {"attention_bias": False, "mlp_bias": False})
    yield Folder("pretraining_tp", {"pretraining_tp": 2})
    yield Folder("dropout", {"attention_dropout": 0.1}, refused="attention_dropout")
    yield Folder("no dropout", {"attention_dropout": 0.0})
    yield Folder("quantised", {"quantization_config": {"quant_method": "gptq", "bits": 4}},
                 refused="quantization_config")
    yield Folder("unknown keys", {"some_key": [1], "use_cache": False, "bos_token_id": 1})
    yield Folder("tokens of the tokenizer's own", {"eos_token_id": [1, 2], "pad_token_id": 0})
    yield Folder("positions absent", {"max_position_embeddings": ABSENT},
                 refused="max_position_embeddings")
    yield Folder("type absent", {"model_type": ABSENT}, refused="model_type")
    yield Folder("another type", {"model_type": "qwen2"}, refused="model_type")
    for key, value in {
        "hidden_size": str(HIDDEN),
        "num_hidden_layers": 2.5,
        "rms_norm_eps": None,
        "initializer_range": None,
        "tie_word_embeddings": None,
        "attention_bias": None,
        "mlp_bias": None,
        "hidden_act": None,
        "rope_parameters": [1],
    }.items():
        yield Folder(f"{key} of another type", {key: value}, refused=key)
    yield Folder("layer types", {"layer_types": ["full_attention"] * LAYERS})


def mistral_folders():
    def mistral(name, keys=None, **more):
        return Folder(f"mistral, {name}", keys, base=MISTRAL, **more)

    yield mistral("nothing said")
    yield mistral("no window", {"sliding_window": None})
    yield mistral("window of all", {"sliding_window": 512})
    yield mistral("window beyond", {"sliding_window": 4096})
    yield mistral("a window", {"sliding_window": 64}, refused="sliding_window")
    yield mistral("window absent, long", {"max_position_embeddings": 8192},
                  refused="sliding_window")
    yield mistral("no window, long", {"max_position_embeddings": 8192, "sliding_window": None})
    eight = {"num_attention_heads": 8}
    yield mistral("heads absent", eight | {"num_key_value_heads": ABSENT})
    yield mistral("heads null", eight | {"num_key_value_heads": None},
                  refused="num_key_value_heads")
    yield mistral("epsilon absent", {"rms_norm_eps": ABSENT})
    yield mistral("tie absent", {"tie_word_embeddings": ABSENT})
    yield mistral("theta", {"rope_theta": 300.0})
    yield mistral("theta in parameters", {"rope_parameters": {"rope_theta": 300.0}})
    yield mistral("head width", {"head_dim": 32})
    yield mistral("head width null", {"head_dim": None})
    yield mistral("dropout", {"attention_dropout": 0.1}, refused="attention_dropout")


MANIFEST = """
apiVersion: heteroloco.dev/v1alpha1
kind: TrainingRun
metadata: {{name: one}}
spec:
  model: {{from: {folder}}}
  data: {{path: {data}, tokenizer: byte}}
  tokens: 1
  batch: {{sequences: 1, sequenceLength: {length}}}
  sparseLoCo: {{innerSteps: 1}}
  evaluation: {{everyRounds: 1, sequences: 100000}}
---
apiVersion: heteroloco.dev/v1alpha1
kind: ComputeIsland
metadata: {{name: island}}
spec:
  runRef: {{name: one}}
  devices: [{{product: NVIDIA-L4}}]
"""


class Own:
    """`heteroloco up` on prepared text."""

    def __init__(self, programs, out):
        self.program, self.out, self.data = programs / "heteroloco", out, out / "data"
        source = pathlib.Path(__file__).resolve().parent.parent / "plan" / "src"
        command = [self.program, "data", "prepare", "--tokenizer", "byte", "--validation", "2%"]
        command += ["--out", self.data, "--input", source]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def held_out(self):
        """Rows of LENGTH tokens and the one after: those of which the loss is taken."""
        import numpy

        index = json.loads((self.data / "index.json").read_text(encoding="utf-8"))
        assert index["tokenBytes"] == 2, "byte tokens are two bytes wide"
        shards = sorted(self.data.glob("validation-*.bin"))
        tokens = numpy.concatenate([numpy.fromfile(shard, dtype="<u2") for shard in shards])
        count = (len(tokens) - 1) // LENGTH
        rows = [tokens[at * LENGTH : (at + 1) * LENGTH + 1] for at in range(count)]
        return numpy.stack(rows).astype(numpy.int64)

    def loss(self, folder):
        """The loss before the first round, or why there is none."""
        manifest, run = folder.with_suffix(".yaml"), folder.with_suffix(".run")
        text = MANIFEST.format(folder=folder, data=self.data, length=LENGTH)
        manifest.write_text(text, encoding="utf-8")
        command = [self.program, "up", "--json", "-f", manifest, "--run-dir", run]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
        events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        losses = [event["heldoutLoss"] for event in events if event.get("event") == "evaluation"]
        return (losses[0], "") if losses else (None, done.stderr.strip() or done.stdout.strip())


def transformers_loss(folder, rows):
    """The loss in transformers, or why there is none."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        ).eval()
    except Exception as error:  # Whatever it is, transformers does not take the folder.
        return None, f"{type(error).__name__}: {error}".splitlines()[0]
    with torch.no_grad():
        logits = model(torch.from_numpy(rows[:, :-1])).logits.flatten(0, 1)
        targets = torch.from_numpy(rows[:, 1:]).flatten()
        return float(torch.nn.functional.cross_entropy(logits.double(), targets)), ""


def judge(row, own, why, theirs):
    """Whether a folder passes, in a word."""
    if own is not None:
        is_equal = theirs is not None and abs(own - theirs) <= BOUND
        return "equal" if is_equal else "DIFFERS"
    if row.refused is None:
        return "REFUSED"
    return "refused" if row.refused in why else "REFUSED BY ANOTHER WORD"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="new folder")
    parser.add_argument("--only", help="folders whose name contains this")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    out = arguments.out.resolve()
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(out / "cache"), "TQDM_DISABLE": "1",
                   "TRANSFORMERS_VERBOSITY": "error"}
    own = Own(arguments.programs.resolve(), out)
    held_out = own.held_out()
    table = [*rope_folders(), *tensor_folders(), *key_folders(), *mistral_folders()]
    table = [row for row in table if (arguments.only or "") in row.name]
    passed = 0
    print(f"{'folder':<42} {'heteroloco':>10} {'transformers':>12}")
    for number, row in enumerate(table):
        folder = out / f"{number:03}"
        copy.deepcopy(row).write(folder)
        loss, why = own.loss(folder)
        theirs, _ = transformers_loss(folder, held_out)
        verdict = judge(row, loss, why, theirs)
        passed += verdict.islower()
        shown = [f"{value:.4f}" if value is not None else "-" for value in (loss, theirs)]
        print(f"{row.name:<42} {shown[0]:>10} {shown[1]:>12} {verdict}", flush=True)
        if not verdict.islower():
            print(f"    {why}", flush=True)
    print(f"figure inputs.model_folders {len(table)} -")
    print(f"figure inputs.models_equal {100 * passed / len(table):.1f} %")
    if passed < len(table):
        sys.exit("folders are taken for another model: see the table")


if __name__ == "__main__":
    main()
