"""What `python -m olmrl.checkpoint push` does; the only verb of the room that sends anything."""

from __future__ import annotations

import argparse
import os

from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.export.card import Sharing, card_step, model_card
from olmrl.export.chosen import CHECKPOINTS, EXPORTED, best_mode, choose, run_config
from olmrl.export.sharing import OWNED, base_of, gather, licence_of, prompt_text
from olmrl.models.files import readme
from olmrl.run.lock import RunLock
from olmrl.share.send import say, send
from olmrl.share.upload import Target


def run_push(options: argparse.Namespace) -> int:
    """Show, or send, a run's model with its card.

    Raises:
        ValueError: the model is not fit to be shared, or the Hub refuses.
    """
    with RunLock(options.run_dir):
        folder, step = _model(options)
        config = run_config(options.run_dir)
        base = base_of(config["model"]["path"], options.base_model)
        gathered = gather(folder)
        # Deferred: torch, which a refusal of anything else does not need.
        from olmrl.export.weights import ModelFolder  # noqa: PLC0415

        ModelFolder(folder).check_fits()
        sharing = Sharing(
            base=base,
            licence=options.licence,
            licence_name=options.licence_name,
            licence_link=options.licence_link,
            base_licence=licence_of(base),
            datasets=tuple(options.dataset),
            prompt_text=prompt_text(config),
        )
        card = model_card(config, step, options.run_dir, name=options.repo, sharing=sharing)
        send(
            Target(options.repo, "model", options.public, OWNED),
            card,
            gathered.items,
            f"step {step}",
            dry_run=options.dry_run,
            left=gathered.left,
        )
    return 0


def _model(options: argparse.Namespace) -> tuple[str, int]:
    """Folder and step of the weights that are meant."""
    run = options.run_dir
    final = os.path.join(run, "model")
    config = run_config(run)
    store = CheckpointFolder(os.path.join(run, CHECKPOINTS), best_mode=best_mode(config))
    if options.step is None and not options.best and os.path.isdir(final):
        step = card_step(readme(final))
        if step is not None:
            return final, step
    step = choose(run, options.step, options.best).step if store.steps() else None
    if step is None:
        raise ValueError(f"{run}: has no complete checkpoint, and no model/ that says its step")
    # Deferred: torch, which a model that is there does not need.
    from olmrl.export.hf import folder_of  # noqa: PLC0415

    return folder_of(run, step, os.path.join(run, EXPORTED), say), step
