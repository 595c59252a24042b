"""Memory formulas against the allocator of a real GPU."""

import pytest
import torch
from learner_peak import Case, Step

from olmrl.cluster.memory import learner_memory, total
from olmrl.models.family import TinySize

pytestmark = pytest.mark.gpu

WIDE = TinySize(1024, 8, 8, 4, 4096, 512, 4, 8, 1024)
TOLERANCE = 0.25


@pytest.mark.parametrize("tokens", [4096, 16384])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_peak_of_a_learner_step(tokens, checkpointing):
    case = Case(WIDE, tokens, 24, checkpointing, dtype="bfloat16", vocabulary=32768, chunk=1024)
    step = Step(case, "cuda")
    step.run()
    torch.cuda.reset_peak_memory_stats()
    step.run()
    predicted = total(learner_memory(step.shape, step.model, step.learner, step.row))
    assert predicted == pytest.approx(torch.cuda.max_memory_allocated(), rel=TOLERANCE)
