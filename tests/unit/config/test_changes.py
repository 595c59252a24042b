"""What a resumed run may change."""

import pytest

from olmrl.config.changes import FREE_TO_CHANGE, config_changes
from olmrl.config.schema import GrpoConfig, SftConfig


def test_keys_that_may_change_what_is_learnt_are_kept_apart():
    old = {"run": {"dir": "a", "seed": 1}, "betas": (0.9, 0.99), "logging": {"wandb": "off"}}
    new = {
        "run": {"dir": "b", "seed": 2}, "betas": [0.9, 0.99], "logging": {"wandb": "online"}, "x": 1
    }  # fmt: skip
    changes = config_changes(old, new)
    assert changes.learning == ["run.seed: 1 -> 2", "x: '(absent)' -> 1"]
    assert changes.free == ["run.dir: 'a' -> 'b'", "logging.wandb: 'off' -> 'online'"]
    assert config_changes(old, old) == ([], [])


@pytest.mark.parametrize("key", FREE_TO_CHANGE)
def test_every_free_key_exists(key):
    def has(schema, parts):
        if not parts:
            return True
        field = schema.model_fields.get(parts[0])
        return field is not None and has(field.annotation, parts[1:])

    assert any(has(schema, key.split(".")) for schema in (GrpoConfig, SftConfig))
