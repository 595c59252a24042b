"""What a configuration can name: rewards, losses, data steps, weight transports.

To add one, write its module and add a line here. One outside olmrl needs no line: a configuration
names it as `package.module:callable`. CONTRIBUTING.md has an example of each.
"""

from olmrl.config.registry import Registry

REWARDS = Registry(
    "reward",
    {
        "bench": "olmrl.rewards.bench:Bench",
        "cer": "olmrl.rewards.error_rate:Cer",
        "edit_distance": "olmrl.rewards.edit_distance:EditDistance",
        "element_count": "olmrl.rewards.element_count:ElementCount",
        "eos": "olmrl.rewards.eos:Eos",
        "formula": "olmrl.rewards.formula:Formula",
        "front_matter": "olmrl.rewards.front_matter:FrontMatter",
        "medoid": "olmrl.rewards.medoid:Medoid",
        "reading_order": "olmrl.rewards.reading_order:ReadingOrder",
        "rect_tables": "olmrl.rewards.rect_tables:RectTables",
        "teds": "olmrl.rewards.teds:Teds",
        "validity": "olmrl.rewards.validity:Validity",
        "wer": "olmrl.rewards.error_rate:Wer",
    },
)
"""`rewards[].name`: `olmrl.rewards.reward.Reward` classes, and functions (`rewards.registry`)."""

LOSSES = Registry(
    "loss",
    {
        "grpo": "olmrl.learner.loss:Grpo",
        "bnpo": "olmrl.learner.loss:PolicyLoss",
        "dr_grpo": "olmrl.learner.loss:DrGrpo",
        "dapo": "olmrl.learner.loss:PolicyLoss",
        "cispo": "olmrl.learner.loss:Cispo",
    },
)
"""`algorithm.loss`: `olmrl.learner.loss.PolicyLoss` classes."""

STEPS = Registry(
    "step",
    {
        "FrontMatterParser": "olmrl.data.steps.reading:FrontMatterParser",
        "PDFRenderer": "olmrl.data.steps.reading:PDFRenderer",
        "StaticLengthDocumentAnchoring": "olmrl.data.steps.reading:StaticLengthDocumentAnchoring",
        "Prompt": "olmrl.data.steps.asking:Prompt",
        "FinetuningPrompt": "olmrl.data.steps.asking:FinetuningPrompt",
        "NewYamlFinetuningPromptWithAnchoring": (
            "olmrl.data.steps.asking:NewYamlFinetuningPromptWithAnchoring"
        ),
        "NewYamlFinetuningPromptWithNoAnchoring": (
            "olmrl.data.steps.asking:NewYamlFinetuningPromptWithNoAnchoring"
        ),
        "JSONOutputFormat": "olmrl.data.steps.answering:JSONOutputFormat",
        "FrontMatterOutputFormat": "olmrl.data.steps.answering:FrontMatterOutputFormat",
        "InstructUserMessages": "olmrl.data.steps.asking:InstructUserMessages",
        "LatexBracketNormalizer": "olmrl.data.steps.rewriting:LatexBracketNormalizer",
        "ReformatLatexBoldItalic": "olmrl.data.steps.rewriting:ReformatLatexBoldItalic",
        "FilterOutRotatedDocuments": "olmrl.data.steps.filtering:FilterOutRotatedDocuments",
        "DatasetTextRuleFilter": "olmrl.data.steps.filtering:DatasetTextRuleFilter",
        "TableTransformation": "olmrl.data.steps.rewriting:TableTransformation",
        "RotationAugmentation": "olmrl.data.steps.augmenting:RotationAugmentation",
        "AugraphyBasicAugmentations": "olmrl.data.steps.augmenting:AugraphyBasicAugmentations",
        "Tokenizer": "olmrl.data.steps.answering:Tokenizer",
        "RandomTokenFlipper": "olmrl.data.steps.answering:RandomTokenFlipper",
    },
)
"""`pipeline[].name`: `olmrl.data.steps.sample.Step` classes."""

TRANSPORTS = Registry(
    "transport",
    {
        "object_store": "olmrl.weight_sync.object_store:ObjectStore",
        "nccl": "olmrl.weight_sync.gpu_transports:Nccl",
        "ipc": "olmrl.weight_sync.gpu_transports:Ipc",
        "nccl_m2n": "olmrl.weight_sync.gpu_transports:NcclM2n",
        "sharded_rdt": "olmrl.weight_sync.gpu_transports:ShardedRdt",
    },
    reserved=("auto",),
)
"""`weight_sync.transport`: `olmrl.weight_sync.transport.Transport` classes."""
