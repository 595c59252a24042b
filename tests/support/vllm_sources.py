"""What olmrl asks of vLLM, held against vLLM's sources, which are read and never imported.

So that an end of the range of versions can be checked for which there is no CPU build. What cannot
be read from the code of olmrl, because the object comes out of vLLM without its type, is in
`USED`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OLMRL = Path(__file__).parents[2] / "olmrl"
_DISTRIBUTED = "vllm.distributed.weight_transfer"
ENGINE = ("vllm.v1.engine.llm_engine", "LLMEngine")
WORKER = ("vllm.v1.worker.gpu_worker", "Worker")

USED = {
    ("vllm.outputs", "RequestOutput"): "request_id outputs num_cached_tokens prompt_logprobs",
    ("vllm.outputs", "CompletionOutput"): "token_ids logprobs finish_reason weight_versions",
    ("vllm.outputs", "WeightVersionSpan"): "version start end",
    ("vllm.logprobs", "Logprob"): "logprob",
    ("vllm.platforms.interface", "Platform"): "is_cpu",
    ("vllm.v1.sample.metadata", "SamplingMetadata"): (
        "temperature all_greedy all_random max_num_logprobs top_p"
    ),
    ("vllm.v1.worker.gpu_model_runner", "GPUModelRunner"): (
        "sampler requests input_batch model_config model"
    ),
    ("vllm.v1.worker.gpu_input_batch", "InputBatch"): "req_ids",
    ("vllm.v1.worker.gpu_input_batch", "CachedRequestState"): "sampling_params output_token_ids",
    WORKER: "model_runner device sleep wake_up",
    (f"{_DISTRIBUTED}.base", "WeightTransferEngine"): "model model_config init_info_cls",
    (f"{_DISTRIBUTED}.nccl_common", "NCCLWeightTransferInitInfo"): (
        "master_address master_port world_size rank_offset packed packed_buffer_size_bytes "
        "packed_num_buffers"
    ),
    (f"{_DISTRIBUTED}.nccl_engine", "NCCLWeightTransferUpdateInfo"): "names dtype_names shapes",
    (f"{_DISTRIBUTED}.ipc_engine", "IPCWeightTransferInitInfo"): "packed",
    (f"{_DISTRIBUTED}.ipc_engine", "IPCWeightTransferUpdateInfo"): (
        "names dtype_names shapes ipc_handles tensor_sizes"
    ),
    (f"{_DISTRIBUTED}.packed_tensor", "PackedIpcChunk"): "ipc_handle tensor_sizes",
    ("vllm.model_executor.layers.mamba.gdn.qwen_gdn_linear_attn", "QwenGatedDeltaNetAttention"): (
        "forward_cpu in_proj_qkvz in_proj_ba A_log dt_bias conv1d kv_cache prefix key_dim "
        "value_dim num_v_heads head_k_dim head_v_dim _output_projection"
    ),
    ("vllm.v1.attention.backends.gdn_attn", "GDNAttentionMetadata"): (
        "non_spec_query_start_loc non_spec_state_indices_tensor num_decodes num_prefills "
        "has_initial_state"
    ),
    ("vllm.v1.metrics.stats", "SchedulerStats"): (
        "num_running_reqs num_waiting_reqs kv_cache_usage"
    ),
    ("vllm.v1.metrics.stats", "IterationStats"): "num_generation_tokens num_preempted_reqs",
}
"""Class -> attributes that olmrl reads or calls, or keys of a dictionary that becomes the class."""


@dataclass(frozen=True)
class Found:
    """A definition and the module that it stands in."""

    module: str
    node: ast.stmt


class Sources:
    """The Python files of a vLLM.

    Args:
        folder: holds `vllm/`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._trees: dict[str, ast.Module | None] = {}

    def text(self, module: str) -> str | None:
        """A module's text, or None where there is no such module."""
        path = self.folder.joinpath(*module.split("."))
        files = [path.with_suffix(".py"), path / "__init__.py"]
        file = next((f for f in files if f.is_file()), None)
        return file.read_text("utf-8") if file else None

    def tree(self, module: str) -> ast.Module | None:
        """A module's syntax, or None where there is no such module."""
        if module not in self._trees:
            text = self.text(module)
            self._trees[module] = None if text is None else ast.parse(text)
        return self._trees[module]

    def find(self, module: str, name: str) -> Found | None:
        """Where a name is defined, through modules that import it; it may be a module itself."""
        tree = self.tree(module)
        for node in _statements(tree.body if tree else []):
            if name in _defined(node):
                return Found(module, node)
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        source = self._source(module, node)
                        outside = not source.startswith("vllm")
                        return Found(source, node) if outside else self.find(source, alias.name)
        inner = f"{module}.{name}"
        return Found(inner, ast.Pass()) if self.tree(inner) else None

    def _source(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = (self.folder.joinpath(*module.split(".")) / "__init__.py").is_file()
        parts = module.split(".")[: None if package and node.level == 1 else -node.level + package]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def classes(self, found: Found) -> list[tuple[str, ast.ClassDef]]:
        """A class and those it inherits from, as far as vLLM defines them."""
        if not isinstance(found.node, ast.ClassDef):
            return []
        every = [(found.module, found.node)]
        for base in found.node.bases:
            name = base.value if isinstance(base, ast.Subscript) else base
            if isinstance(name, ast.Name) and (parent := self.find(found.module, name.id)):
                every += self.classes(parent)
        return every

    def members(self, found: Found) -> set[str]:
        """Methods, fields and attributes that methods set, inherited ones too."""
        names: set[str] = set()
        for _, node in self.classes(found):
            for part in ast.walk(node):
                if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                    names.add(part.name)
                elif isinstance(part, ast.AnnAssign | ast.Assign):
                    names |= _defined(part)
                    targets = part.targets if isinstance(part, ast.Assign) else [part.target]
                    names |= {n.attr for t in targets for n in ast.walk(t) if _is_own(n)}
        return names

    def method(self, found: Found, name: str) -> ast.FunctionDef | None:
        """A method by name, inherited ones too."""
        for _, node in self.classes(found):
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name == name:
                    return part
        return None

    def parameters(self, found: Found) -> tuple[list[str], bool]:
        """What a function or a constructor takes, and whether it takes any keyword."""
        if isinstance(found.node, ast.FunctionDef):
            return _signature(found.node, bound=False)
        written = self.method(found, "__init__")
        if written is not None:
            return _signature(written, bound=True)
        fields = [
            part.target.id
            for _, node in reversed(self.classes(found))
            for part in node.body
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
        ]
        return fields, False


def complaints(sources: Sources) -> list[str]:
    """What olmrl asks of vLLM and these sources do not have; one line each."""
    return [
        *(line for path in sorted(OLMRL.rglob("*.py")) for line in _of_module(sources, path)),
        *_of_used(sources),
    ]


def _of_used(sources: Sources) -> Iterator[str]:
    for (module, name), attributes in USED.items():
        found = sources.find(module, name)
        if found is None:
            yield f"{module} has no {name}"
            continue
        for missing in sorted(set(attributes.split()) - sources.members(found)):
            yield f"{module}.{name} has no {missing}"


def _of_module(sources: Sources, path: Path) -> Iterator[str]:
    """Imports, calls and overrides of one module of olmrl."""
    tree = ast.parse(path.read_text("utf-8"))
    where = path.relative_to(OLMRL.parent)
    names: dict[str, Found] = {}
    either = _alternatives(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vllm":
            for alias in node.names:
                found = sources.find(node.module or "", alias.name)
                if found is None and node in either:
                    continue
                if found is None:
                    yield f"{where}: {node.module} has no {alias.name}"
                else:
                    names[alias.asname or alias.name] = found
    if not names:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from (f"{where}:{node.lineno}: {text}" for text in _call(sources, names, node))
        elif isinstance(node, ast.ClassDef):
            yield from (f"{where}: {text}" for text in _overrides(sources, names, node))
        elif isinstance(node, ast.FunctionDef) and node.name == "engine_arguments":
            taken, _ = sources.parameters(names["EngineArgs"])
            for key in sorted(_keys(node) - set(taken)):
                yield f"{where}: EngineArgs takes no {key}"


def _alternatives(tree: ast.Module) -> set[ast.stmt]:
    """Imports of functions that ask `hasattr` first: of two ways, a version of vLLM has one."""
    return {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        and any(isinstance(n, ast.Name) and n.id == "hasattr" for n in ast.walk(function))
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom)
    }


def _call(sources: Sources, names: dict[str, Found], call: ast.Call) -> Iterator[str]:
    """Of a call to something of vLLM's: unknown methods, unknown or too many arguments."""
    function, owner = call.func, None
    if isinstance(function, ast.Attribute):
        engine = isinstance(function.value, ast.Attribute) and function.value.attr == "_llm"
        if engine:
            owner = sources.find(*ENGINE)
        elif isinstance(function.value, ast.Name):
            owner = names.get(function.value.id)
        if owner is None or not isinstance(owner.node, ast.ClassDef):
            return
        method = sources.method(owner, function.attr)
        if method is None:
            yield f"{owner.node.name} has no {function.attr}"
            return
        if function.attr == "collective_rpc":
            yield from _remote(sources, call)
        yield from _arguments(call, function.attr, *_signature(method, bound=True))
    elif isinstance(function, ast.Name) and function.id in names:
        found = names[function.id]
        if isinstance(found.node, ast.ClassDef | ast.FunctionDef):
            yield from _arguments(call, function.id, *sources.parameters(found))


def _remote(sources: Sources, call: ast.Call) -> Iterator[str]:
    """A method that every worker has, by name; olmrl's own are in its extension."""
    name = call.args[0].value if isinstance(call.args[0], ast.Constant) else None
    worker = sources.find(*WORKER)
    assert worker is not None
    if not isinstance(name, str) or name.startswith("olmrl_"):
        return
    method = sources.method(worker, name)
    if method is None:
        yield f"vLLM's worker has no {name}"
        return
    given = next((k.value for k in call.keywords if k.arg == "args"), None)
    count = len(given.elts) if isinstance(given, ast.Tuple) else 0
    if count > len(_signature(method, bound=True)[0]):
        yield f"vLLM's worker takes fewer arguments in {name} than {count}"


def _arguments(call: ast.Call, name: str, taken: list[str], anything: bool) -> Iterator[str]:
    wanted = {keyword.arg for keyword in call.keywords if keyword.arg}
    if not anything:
        yield from (f"{name} takes no {missing}" for missing in sorted(wanted - set(taken)))
    if len(call.args) > len(taken) and not anything:
        yield f"{name} takes fewer than {len(call.args)} arguments"


def _overrides(sources: Sources, names: dict[str, Found], node: ast.ClassDef) -> Iterator[str]:
    """Of a subclass of vLLM's: methods that take something else, abstract ones that are missing."""
    own = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
    for base in node.bases:
        name = base.value if isinstance(base, ast.Subscript) else base
        parent = names.get(name.id) if isinstance(name, ast.Name) else None
        if parent is None:
            continue
        nearer: set[str] = set()
        for _, each in sources.classes(parent):
            for part in each.body:
                if not isinstance(part, ast.FunctionDef) or part.name == "__init__":
                    continue
                if part.name in nearer:  # vLLM overrides it itself
                    continue
                nearer.add(part.name)
                mine = own.get(part.name)
                if mine is None:
                    if any("abstractmethod" in ast.unparse(d) for d in part.decorator_list):
                        yield f"{node.name} lacks {part.name}, which is abstract"
                elif _signature(mine, bound=True)[0] != _signature(part, bound=True)[0]:
                    yield f"{node.name}.{part.name} takes {_signature(mine, bound=True)[0]}, " + (
                        f"vLLM gives {_signature(part, bound=True)[0]}"
                    )


def _signature(function: ast.FunctionDef, *, bound: bool) -> tuple[list[str], bool]:
    """Names of the parameters (without self or cls), and whether any keyword is taken."""
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    static = any(ast.unparse(d) == "staticmethod" for d in function.decorator_list)
    anything = arguments.kwarg is not None or arguments.vararg is not None
    return names[1 if bound and not static else 0 :], anything


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those under a condition too."""
    for node in body:
        yield node
        for inner in ("body", "orelse", "handlers"):
            if isinstance(node, ast.If | ast.Try):
                yield from _statements(getattr(node, inner, []))


def _defined(node: ast.AST) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _is_own(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )


def _keys(function: ast.FunctionDef) -> set[str]:
    """Keys of the dictionary `arguments` that a function fills."""
    keys: set[str] = set()
    for node in ast.walk(function):
        value = getattr(node, "value", None)
        if isinstance(node, ast.AnnAssign | ast.AugAssign) and isinstance(value, ast.Dict):
            keys |= {k.value for k in value.keys if isinstance(k, ast.Constant)}
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            index = node.targets[0].slice
            keys |= {index.value} if isinstance(index, ast.Constant) else set()
    return keys
