"""New weights from the learner into every engine, stamped with their policy version.

    LearnerWorker (all ranks) -- WeightSender --> RolloutWorker.sync / update_weights --> Engine

`publication` and `checksum` are pure; `store` is the Ray actor that knows the engines and owns the
latest publication; `transport` says what a transport is and which one a run uses; `sender` is the
learner's side; `vllm_backend` is the engine's side of `object_store`. Between GPUs engines run
vLLM's own receivers, to which `direct_sender` and `gpu_links` (`nccl`, `ipc`) or vLLM's own trainer
engines (`vllm_trainers`: `nccl_m2n`, `sharded_rdt`) send.
"""
