"""New weights from the learner into every engine, stamped with their policy version.

    LearnerWorker (all ranks) -- WeightSender --> RolloutWorker.sync / update_weights --> Engine

`publication` and `checksum` are pure; `store` is the Ray actor that knows the engines and owns the
latest publication; `transport` says what a transport is and which one a run uses; `sender` is the
learner's side; `vllm_backend` is the engine's side of `object_store`. The GPU transports use vLLM's
own (`nccl`, `ipc`).
"""
