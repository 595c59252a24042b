"""Memory formulas against what is really allocated.

Activations are measured by counting every tensor that an operation makes (`LiveBytes`), weights,
gradients and optimizer state by adding up the tensors.
"""

import pytest
from learner_peak import Case, Step
from live_bytes import LiveBytes
from reading_peak import Reading

from olmrl.cluster import model_shape
from olmrl.cluster.memory import (
    Row,
    Teacher,
    at_rest,
    engine_memory,
    kv_bytes_per_token,
    learner_memory,
    loading_bytes,
    sent_bytes,
    total,
    transcription_memory,
)
from olmrl.cluster.shape import quantised_parameters
from olmrl.cluster.workload import Workload
from olmrl.config import GrpoConfig, load
from olmrl.config.schema import (
    LearnerConfig,
    LoraConfig,
    ModelConfig,
    RolloutConfig,
    TranscriptionConfig,
)
from olmrl.models.family import TinySize
from olmrl.synth.model import SIZES

SEVEN_B = model_shape("Qwen/Qwen2.5-VL-7B-Instruct")
WIDE = TinySize(256, 4, 4, 2, 768, 128, 3, 4, 256)
TOLERANCE = 0.10
PAGE = Workload(patches=6624, prompt=1826, completion=1000, limit=3000, image_bytes=0)

CASES = [
    Case(SIZES["tiny"], 1024, 8, checkpointing=True),
    Case(SIZES["tiny"], 4096, 8, checkpointing=True),
    Case(SIZES["tiny"], 1024, 8, checkpointing=False),
    Case(SIZES["tiny"], 4096, 8, checkpointing=False),
    Case(WIDE, 1024, 8, checkpointing=True),
    Case(WIDE, 1536, 8, checkpointing=False),
    # the image decides
    Case(WIDE, 768, 16, checkpointing=True),
    Case(SIZES["tiny"], 768, 20, checkpointing=False),
    # the head decides
    Case(SIZES["tiny"], 1024, 8, checkpointing=True, vocabulary=16384),
    # narrower arithmetic
    Case(SIZES["tiny"], 2048, 8, checkpointing=True, dtype="bfloat16"),
    Case(SIZES["tiny"], 2048, 8, checkpointing=False, dtype="bfloat16"),
    # another family; the image decides in the first
    Case(WIDE, 768, 16, checkpointing=True, family="qwen2_vl"),
    Case(SIZES["tiny"], 768, 20, checkpointing=False, family="qwen2_vl"),
    Case(SIZES["tiny"], 2048, 16, checkpointing=False, dtype="bfloat16", family="qwen2_vl"),
    Case(SIZES["tiny"], 4096, 8, checkpointing=True, family="qwen2_vl"),
    # features for several language layers, and norms of queries and keys
    Case(WIDE, 768, 16, checkpointing=True, family="qwen3_vl"),
    Case(SIZES["tiny"], 768, 20, checkpointing=False, family="qwen3_vl"),
    Case(SIZES["tiny"], 2048, 16, checkpointing=False, dtype="bfloat16", family="qwen3_vl"),
    Case(SIZES["tiny"], 4096, 8, checkpointing=True, family="qwen3_vl"),
    # blocks of two kinds, one of them recurrent
    Case(WIDE, 768, 16, checkpointing=True, family="qwen3_5"),
    Case(SIZES["tiny"], 2048, 16, checkpointing=False, dtype="bfloat16", family="qwen3_5"),
    Case(SIZES["tiny"], 4096, 8, checkpointing=True, family="qwen3_5"),
]


@pytest.mark.parametrize(
    "case", CASES, ids=lambda c: f"{c.family}-{c.tokens}-{c.side}-{c.dtype[:2]}"
)
def test_peak_of_a_learner_step(case):
    step = Step(case)
    step.run()  # optimizer state exists from here on
    with LiveBytes() as live:
        step.run()
    # patches lie in numpy memory on a CPU, where no tensor operation makes them
    measured = live.peak + step.rows[0].patches.nbytes
    memory = learner_memory(step.shape, step.model, step.learner, step.row)
    present = {"weights", "optimizer", "gathered weights", "gathered gradients"}
    predicted = sum(size for name, size in memory.items() if name not in present)
    assert predicted == pytest.approx(measured, rel=TOLERANCE)


def test_weights_gradients_and_optimizer_to_the_byte():
    step = Step(CASES[0])
    step.strategy.optim.zero_grad()
    step.run()
    parameters = list(step.strategy.policy.parameters())
    weights = sum(p.nbytes for p in parameters)
    (adam,) = step.strategy.optim.optimizers
    moments = sum(
        value.nbytes for state in adam.state.values() for k, value in state.items() if k != "step"
    )
    for parameter in parameters:
        parameter.grad = parameter.detach().clone()
    memory = at_rest(step.shape, step.model, step.learner, with_reference=False)
    gradients = sum(p.grad.nbytes for p in parameters)
    assert memory == {"weights": weights, "gradients": gradients, "optimizer": moments}


READINGS = [
    # the image decides, then the prompt, then the text
    Reading(SIZES["tiny"], pages=4, side=16, text=8, max_tokens=4),
    Reading(WIDE, pages=2, side=16, text=8, max_tokens=4),
    Reading(WIDE, pages=2, side=16, text=8, max_tokens=4, dtype="bfloat16"),
    Reading(SIZES["tiny"], pages=4, side=2, text=600, max_tokens=4),
    Reading(WIDE, pages=4, side=2, text=600, max_tokens=4, dtype="bfloat16"),
    Reading(SIZES["tiny"], pages=8, side=2, text=8, max_tokens=300),
    Reading(WIDE, pages=4, side=2, text=8, max_tokens=300, dtype="bfloat16"),
]


@pytest.mark.parametrize("reading", READINGS, ids=lambda r: f"{r.side}-{r.text}-{r.max_tokens}")
def test_peak_of_a_transcription(reading, tmp_path):
    copy, peak = reading.measure(tmp_path)
    generate = TranscriptionConfig(batch_pages=reading.pages, max_tokens=reading.max_tokens)
    memory = transcription_memory(
        reading.shape, reading.model, LearnerConfig(use_gpu=False), reading.work, generate
    )
    predicted = total(memory) - memory["weights"] - memory["optimizer"]
    assert memory["whole copy"] == pytest.approx(copy, rel=0.01)
    assert predicted - memory["whole copy"] == pytest.approx(peak, rel=0.15)


def test_states_are_split_over_ranks():
    eight = LearnerConfig(workers=8)
    memory = at_rest(SEVEN_B, ModelConfig(path="x"), eight, with_reference=True)
    # 8.29e9 parameters x 4 bytes / 8 ranks
    assert memory["weights"] == pytest.approx(8.292e9 * 4 / 8, rel=1e-3)
    assert memory["optimizer"] == 2 * memory["weights"]
    # never updated, it is held in the dtype of the computation
    assert memory["reference"] == memory["weights"] / 2
    exact = eight.model_copy(update={"fp32_lm_head": True})
    exact_memory = at_rest(SEVEN_B, ModelConfig(path="x"), exact, with_reference=True)
    assert exact_memory["reference"] == memory["weights"]


def test_a_reference_can_be_off_loaded_alone():
    learner = LearnerConfig(workers=8, reference_offload=True)
    row = Row.of(PAGE, 16384, 28)
    near, far = (
        learner_memory(SEVEN_B, ModelConfig(path="x"), each, row, with_reference=True)
        for each in (LearnerConfig(workers=8), learner)
    )
    assert total(near) - total(far) == near["reference"] and "reference" not in far
    assert far["weights"] == near["weights"]


def test_adapters_need_neither_reference_nor_large_states():
    lora = ModelConfig(path="x", lora=LoraConfig())
    memory = at_rest(SEVEN_B, lora, LearnerConfig(), with_reference=True)
    assert "reference" not in memory
    assert memory["gradients"] + memory["optimizer"] < 0.01 * memory["weights"]


def test_an_engine_of_eight_bits_holds_a_byte_of_each_rounded_weight():
    path = "Qwen/Qwen2.5-VL-7B-Instruct"
    rounded = quantised_parameters(path)
    # 28 layers of q, o (3584 x 3584), k, v (3584 x 512) and three MLP matrices (3584 x 18944)
    assert rounded == 28 * (2 * 3584**2 + 2 * 3584 * 512 + 3 * 3584 * 18944)
    rollout = RolloutConfig()
    whole, eight = (engine_memory(SEVEN_B, rollout, PAGE, 80e9, rounded=n) for n in (0, rounded))
    assert whole["weights"] - eight["weights"] == rounded
    assert eight["KV cache"] - whole["KV cache"] == pytest.approx(rounded), "room is not lost"


def test_an_engine_with_adapters_holds_them_beside_its_weights():
    lora = LoraConfig(rank=16, target_modules=("q_proj", "o_proj"))
    memory = engine_memory(SEVEN_B, RolloutConfig(), PAGE, 80e9, adapter=lora)
    assert memory["adapters"] == 2 * 28 * 2 * 16 * (3584 + 3584)


def test_adapters_alone_are_a_small_part_of_a_sync():
    words = ["model.path=x", "data.train=d", "model.lora={rank: 16, target_modules: [q_proj]}"]
    merged, alone = (
        sent_bytes(load(GrpoConfig, None, [*words, f"weight_sync.lora={how}"]), SEVEN_B)
        for how in ("merged", "adapter")
    )
    assert merged == 2 * SEVEN_B.parameters
    assert alone == 2 * 28 * 16 * (3584 + 3584)


def test_offloaded_states_leave_the_gpu():
    row = Row.of(PAGE, 16384, 28)
    kept, gone = (
        total(learner_memory(SEVEN_B, ModelConfig(path="x"), learner, row))
        for learner in (LearnerConfig(workers=8), LearnerConfig(workers=8, cpu_offload=True))
    )
    assert kept - gone == pytest.approx(8.292e9 * 16 / 8, rel=0.01)


def test_a_larger_budget_costs_half_a_megabyte_per_token():
    """By hand for 7B in bfloat16, one block recomputed: 28 inputs, one block, the ends."""
    small, large = (
        total(learner_memory(SEVEN_B, ModelConfig(path="x"), LearnerConfig(workers=8), row))
        for row in (Row(40000, 6624, 38000, 40000), Row(50000, 6624, 48000, 50000))
    )
    inputs = 28 * 3584 * 2
    block = 24 * 3584 + 8 * 18944 + 2 * 512 * 2
    ends = 2 * 3584 * 10
    assert (large - small) / 10000 == pytest.approx(inputs + block + ends, rel=0.01)


def test_kv_cache_is_counted_as_vllm_counts_it():
    torch = pytest.importorskip("torch")
    interface = pytest.importorskip("vllm.v1.kv_cache_interface")
    shape = Step(CASES[0]).shape
    for dtype in ("float32", "bfloat16"):
        spec = interface.FullAttentionSpec(
            block_size=32,
            num_kv_heads=CASES[0].size.kv_heads,
            head_size=CASES[0].size.hidden // CASES[0].size.heads,
            dtype=getattr(torch, dtype),
        )
        assert kv_bytes_per_token(shape, dtype) == shape.language.count * spec.page_size_bytes / 32


def test_an_engine_fills_its_share_of_the_gpu_and_no_more():
    rollout = RolloutConfig(gpu_memory_utilization=0.9)
    memory = engine_memory(SEVEN_B, rollout, PAGE, 80e9)
    assert total(memory) == pytest.approx(0.9 * 80e9)
    assert engine_memory(SEVEN_B, rollout, PAGE, 10e9)["KV cache"] == 0.0
    halves = engine_memory(SEVEN_B, RolloutConfig(tensor_parallel_size=2), PAGE, 80e9)
    assert halves["weights"] == memory["weights"] / 2
    fixed = engine_memory(SEVEN_B, RolloutConfig(kv_cache_gb=0.5), PAGE, None)
    assert fixed["KV cache"] == 2**29


def test_a_teacher_lies_beside_the_policy_and_can_be_off_loaded():
    model, row = ModelConfig(path="x"), Row.of(PAGE, 16384, 28)
    teacher = Teacher(SEVEN_B, headless=False)
    plain, beside, away = (
        learner_memory(SEVEN_B, model, learner, row, teacher=given)
        for learner, given in (
            (LearnerConfig(workers=8), None),
            (LearnerConfig(workers=8), teacher),
            (LearnerConfig(workers=8, teacher_offload=True), teacher),
        )
    )
    # frozen, so in the dtype of the computation, and sharded
    assert beside["teacher"] == pytest.approx(8.292e9 * 2 / 8, rel=1e-3)
    assert total(beside) - total(plain) == beside["teacher"]
    assert away == plain


def test_a_teacher_of_the_whole_vocabulary_keeps_its_head_gathered():
    model, row = ModelConfig(path="x"), Row.of(PAGE, 16384, 28)
    memory = learner_memory(
        SEVEN_B, model, LearnerConfig(workers=8), row, teacher=Teacher(SEVEN_B, headless=True)
    )
    heads = 2 * 152064 * 3584 * 2
    states = row.predicted * 3584 * 2
    # and the merger, which lies in the root unit too
    assert heads + states < memory["teacher's head"] < 1.1 * (heads + states)


def test_a_teacher_is_loaded_beside_the_sharded_policy():
    model, learner = ModelConfig(path="x"), LearnerConfig(workers=8)
    alone = loading_bytes(SEVEN_B, model, learner, False)
    beside = loading_bytes(SEVEN_B, model, learner, False, Teacher(SEVEN_B, headless=False))
    assert alone == pytest.approx(8.292e9 * 4, rel=1e-3)
    assert beside == alone  # 2 bytes, beside an eighth of 4
    two = LearnerConfig(workers=2)
    beside = loading_bytes(SEVEN_B, model, two, True, Teacher(SEVEN_B, headless=False))
    assert beside == pytest.approx(8.292e9 * (4 / 2 + 2 / 2 + 2), rel=1e-3)
