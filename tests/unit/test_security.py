"""A test for each promise of docs/security.md that has none elsewhere."""

import ast
import os
import re
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from local_server import LocalServer

import olmrl.mix.ray_map
import olmrl.ray_start
from olmrl import storage
from olmrl.__main__ import main
from olmrl.cluster import Plan
from olmrl.cluster.connect import connect, worker_environment
from olmrl.config import ConfigError, GrpoConfig, SftConfig
from olmrl.config.load import dump, is_model, validate
from olmrl.markup.equations import render
from olmrl.mix.api import Api, ApiError
from olmrl.mix.journal import Journal
from olmrl.mix.verbs import stats
from olmrl.redaction import secret_in
from olmrl.report import Text, page

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "olmrl").rglob("*.py"))
LAUNCH = [p for p in (ROOT / "launch").rglob("*") if p.suffix in {".yaml", ".sbatch", ".md"}]
SECRETS = {
    "HF_TOKEN": "hf_SECRET",
    "WANDB_API_KEY": "w_SECRET",
    "OPENAI_API_KEY": "sk_SECRET",
    "AWS_SECRET_ACCESS_KEY": "a_SECRET",
    "RAY_AUTH_TOKEN": "r_SECRET",
}


# -- code and data


def calls(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}, node


OWN_PICKLES = {
    "olmrl/data/payload.py",  # blocks of Ray's object store
    "olmrl/mix/ray_map.py",  # rows of its own Ray Data job
    "olmrl/checkpoint/shards.py",  # an unpickler that knows a few classes
}


def test_nothing_of_others_is_unpickled_or_run():
    found = set()
    for path in MODULES:
        name = str(path.relative_to(ROOT))
        for called, named, node in calls(path):
            if re.fullmatch(r"(?:cloud)?pickle\.loads?|.*Unpickler|joblib\.load", called):
                found.add(name)
            if called == "torch.load":
                assert named.get("weights_only") == "True", name
            if called in ("np.load", "numpy.load"):
                assert named.get("allow_pickle") == "False", name
            if called == "yaml.load":
                assert "Loader" in named and "Unsafe" not in named["Loader"], name
            assert called not in ("eval", "exec", "os.system", "os.popen"), name
            assert named.get("shell") != "True", (name, node.lineno)
    assert found == OWN_PICKLES


def test_yaml_loaders_make_plain_values_only():
    from olmrl.config.load import parse_yaml

    for text in ("a: !!python/object/apply:os.system [true]", "a: !!python/name:os.system"):
        with pytest.raises(ConfigError):
            parse_yaml(text, "x.yaml")


@pytest.mark.parametrize("schema", [GrpoConfig, SftConfig])
def test_code_of_a_model_only_runs_when_asked_for(schema):
    assert (
        schema.model_fields["model"].annotation.model_fields["trust_remote_code"].default is False
    )


# -- pages for people

HOSTILE = "<script>alert(1)</script><img src=http://evil/x onerror=alert(2)>"


@pytest.mark.parametrize(
    "html",
    [
        page(HOSTILE, HOSTILE, [Text(HOSTILE, (HOSTILE,))]),
        stats.page(
            {
                "subsets": {HOSTILE: {"pages": 1, "published": 2}},
                "unit": HOSTILE,
                "size": {HOSTILE: 3},
                "shares": {HOSTILE: 0.5},
                "pages": 1,
            },
            ["data:,x"],
            [{"name": HOSTILE, "text": HOSTILE, "image": ""}],
            [{"key": HOSTILE, "reason": HOSTILE}],
        ),
    ],
    ids=["report", "mix stats"],
)
def test_reports_escape_everything_and_forbid_scripts(html):
    assert "<script" not in html and "<img src=http" not in html
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)[1]
    assert "default-src 'none'" in policy and "script-src" not in policy


# -- Ray


def test_a_cluster_that_is_started_here_has_an_address_on_loopback(monkeypatch):
    started = []

    def init(**settings):
        started.append(settings)
        raise ValueError("far enough")

    monkeypatch.setattr(olmrl.ray_start.ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ValueError, match="far enough"):
        connect(None, 1, Plan((), None), dashboard=True)
    monkeypatch.setattr(olmrl.mix.ray_map.ray, "is_initialized", lambda: False)
    with pytest.raises(ValueError, match="far enough"):
        list(olmrl.mix.ray_map.map_on_ray([], str, workers=1, address="local"))
    assert [s["_node_ip_address"] for s in started] == ["127.0.0.1", "127.0.0.1"]
    assert started[0]["dashboard_host"] == "127.0.0.1" and not started[1]["include_dashboard"]


def test_a_joined_cluster_decides_about_tokens(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE")
    with pytest.raises(Exception, match="no Ray answers"):
        connect("127.0.0.1:1", None, Plan((), None), dashboard=False)
    assert "RAY_AUTH_MODE" not in os.environ


def test_every_launch_file_asks_for_a_token():
    for path in [*LAUNCH, ROOT / "README.md"]:
        assert not re.search(r"RAY_AUTH_MODE\W+(?:value: *)?disabled", path.read_text("utf-8")), (
            path
        )
    for cloud in ("aws", "gcp"):
        values = yaml.safe_load((ROOT / f"launch/{cloud}.yaml").read_text("utf-8"))
        assert "-e RAY_AUTH_MODE=token" in values["docker"]["run_options"]
        assert values["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    for name in ("raycluster", "rayjob"):
        spec = yaml.safe_load((ROOT / f"launch/kuberay/{name}.yaml").read_text("utf-8"))["spec"]
        assert spec.get("rayClusterSpec", spec)["authOptions"] == {"mode": "token"}
    assert "export RAY_AUTH_MODE=token" in (ROOT / "launch/slurm.sbatch").read_text("utf-8")


# -- secrets


def test_workers_are_given_no_secret(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    passed = worker_environment()
    assert not set(passed) & set(SECRETS)
    assert "SECRET" not in " ".join(passed.values())


def keys_of(section):
    for name, field in section.model_fields.items():
        yield name
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for kind in kinds:
            if is_model(kind):
                yield from keys_of(kind)


@pytest.mark.parametrize("schema", [GrpoConfig, SftConfig])
def test_no_key_of_a_configuration_holds_a_secret(schema):
    names = set(keys_of(schema))
    assert len(names) > 60
    assert [
        n for n in names if re.search("password|secret|credential|api_key|(^|_)token$", n)
    ] == []


ADDRESSES = [
    "ftp://me:SECRET@host/pages",
    "https://SECRET@host/pages",
    "simplecache::https://me:SECRET@host/pages",
    "https://b.s3.amazonaws.com/x?X-Amz-Date=1&X-Amz-Signature=SECRET",
    "https://b.s3.amazonaws.com/x?X-Amz-Security-Token=SECRET",
    "https://h/x?sv=2&sig=SECRET",
    "https://h/x?access_token=SECRET",
    "https://h/x?client_secret=SECRET",
    "https://h/x#token=SECRET",
    "https://h/x?subscription_key=SECRET",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_with_a_secret_is_refused_and_not_repeated(address):
    with pytest.raises(ConfigError, match=r"c.yaml: data.train.* password or key") as caught:
        validate(GrpoConfig, {"data": {"train": address}}, "c.yaml")
    assert "SECRET" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"data\.train\.0\.root "):
        validate(SftConfig, {"data": {"train": [{"root": address}]}}, "c.yaml")


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_command_takes_an_address_with_a_secret(address, tmp_path):
    with pytest.raises(ValueError, match="password or key") as caught:
        storage.read_bytes(address)
    assert "SECRET" not in str(caught.value)
    with pytest.raises(ValueError, match="password or key") as caught:
        Journal(str(tmp_path), {"base_url": address})
    assert "SECRET" not in str(caught.value)
    assert not any(b"SECRET" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    "address", ["http://me:SECRET@127.0.0.1:1/v1", "http://127.0.0.1:1/v1?api_key=SECRET"]
)
def test_a_server_with_a_key_in_its_address_is_refused_before_it_is_asked(
    address, tmp_path, capfd, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    (tmp_path / "in").mkdir()
    for arguments in (
        ["mix", "openai-run", tmp_path / "in", "--base-url", address],
        ["read", tmp_path / "in", "-o", tmp_path / "out", "--model", "m", "--base-url", address],
    ):
        with suppress(SystemExit):
            assert main([str(argument) for argument in arguments]) != 0
        said = "".join(capfd.readouterr())
        assert "password or key" in said and "SECRET" not in said
    assert not any(b"SECRET" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("api_key", "SECRET"),
        ("token", "SECRET"),
        ("hf_token", "SECRET"),
        ("db_password", "SECRET"),
        ("client_secret", "SECRET"),
        ("server", "hf_" + "SECRET" * 6),
        ("server", "sk-proj-SECRET1234567890SECRET"),
        ("server", "sk-proj-SECRET1234567890SECRET_T3BlbkFJ-x_1"),
        ("server", "key=AKIASECRETSECRETSECR"),
        ("server", "ghp_" + "SECRET" * 6),
        ("server", "github_pat_" + "SECRET" * 6),
        ("server", "glpat-" + "SECRET" * 6),
        ("server", "AIza" + "SECRET-" * 5),
        ("server", "xoxb-" + "SECRET" * 6),
        ("server", "ASIASECRETSECRETSECR"),
        ("server", "eyJhbGciOiJSECRET.eyJzdWIiOiSECRET.SECRET"),
        ("server", "-----BEGIN RSA PRIVATE KEY-----\nSECRET"),
        ("headers", {"X-Custom": "Bearer SECRET-SECRET-1234"}),
        ("headers", {"Authorization": "SECRET"}),
        ("headers", {"x-api-key": "SECRET"}),
        ("options", [{"apiKey": "SECRET"}]),
        ("accessToken", "SECRET"),
        ("clientSecret", "SECRET"),
        ("aws_secret_key", "SECRET"),
        ("passphrase", "SECRET"),
        ("token", "SECRET+SECRET/SECRET=="),
    ],
)
def test_options_of_own_parts_take_no_secret(key, value):
    reward = {"name": "mine:reward", "options": {key: value}}
    with pytest.raises(ConfigError, match=rf"rewards\.0\.options\.{key}[. ]") as caught:
        validate(GrpoConfig, {"rewards": [reward]}, "c.yaml")
    assert "SECRET" not in str(caught.value)


def test_usual_values_are_no_secrets():
    for address in ("s3://bucket/a@b/c", "hf://me/data", "/data/me@home", "gs://b/x?y", "a@b"):
        assert not secret_in(address, "data.train")
    for key in ("end_of_message_token", "max_tokens", "masking_index", "token_flip_rate", "keys"):
        assert not secret_in("<|im_end|>", key)
    for token in ("<|im_end|>", "[IMG]", "</s>", " the", "\u2581a", "{text}", "#"):
        assert not secret_in(token, "rewards.0.options.token"), token
    for text in ("basic understanding of internationalisation", "Bearer of bad news", "eyJ.eyJ."):
        assert not secret_in(text, "rewards.0.options.prompt"), text
    for path in (
        *("data/sk-learn-the-long-name-of-a-folder", "runs/hf_model", "AKIA"),
        *("sk-GRPO-Qwen25-experiment-2026", "runs/sk-OCR_training_Run_2026_11_27"),
    ):
        assert not secret_in(path, "run.dir")


def test_the_environment_is_not_in_a_dumped_configuration(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    config = validate(GrpoConfig, yaml.safe_load(TINY.read_text("utf-8")), "tiny")
    assert "SECRET" not in dump(config)


TINY = ROOT / "configs/grpo/tiny_cpu.yaml"


def test_no_option_takes_a_secret_itself():
    options = {
        node.args[0].value
        for path in MODULES
        for called, _, node in calls(path)
        if called.endswith("add_argument") and node.args and isinstance(node.args[0], ast.Constant)
    }
    assert "--api-key-env" in options
    flags = [option for option in options if str(option).startswith("-")]
    assert [o for o in flags if re.search(r"password|secret|(key|token)$", o)] == []


def test_the_audit_has_one_command():
    assert "launch/local.sh audit" in (ROOT / "Makefile").read_text("utf-8")
    assert "pip-audit" in (ROOT / "launch/local.sh").read_text("utf-8")


def test_what_runs_as_code_is_said():
    text = (ROOT / "docs/security.md").read_text("utf-8")
    for named in ("rewards", "trust_remote_code", "package.module:callable", "launch files"):
        assert named in text


# -- what leaves the machine


class Redirecting(LocalServer):
    """Sends whoever comes to another server."""

    def __init__(self, target, status):
        self.target, self.status = target, status

    def handle(self, http, method, body):
        self.send(http, self.status, {"Location": self.target}, {})


class Listening(LocalServer):
    """Notes what reaches it."""

    def __init__(self):
        self.heard = []

    def handle(self, http, method, body):
        self.heard.append((dict(http.headers), body))
        self.send(http, 200, {}, {"choices": []})


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_pages_and_keys_go_to_the_named_server_and_not_where_it_sends_us(status):
    with (
        Listening() as other,
        Redirecting(f"{other.url}/chat/completions?key=SECRET", status) as named,
    ):
        with Api(named.url, "SECRET", attempts=1) as api, pytest.raises(ApiError) as caught:
            api.chat({"model": "m", "messages": []}, "once")
        assert other.heard == []
        assert f"sends us to {other.url}/chat/completions;" in str(caught.value)
        assert not caught.value.transient and "SECRET" not in str(caught.value)


# -- formulas


@pytest.mark.parametrize(
    "latex",
    [
        r"\includegraphics{/etc/hostname}",
        r"\includegraphics[height=1em]{http://127.0.0.1:1/x.png}",
        r"\href{javascript:alert(1)}{x}",
        r"\url{file:///etc/hostname}",
        r"\htmlClass{x}{y}",
        r"\htmlStyle{background:url(http://127.0.0.1:1/)}{y}",
        r"\htmlData{a=b}{y}",
    ],
)
def test_formulas_name_no_file_address_or_script(latex):
    shown = repr(render(latex))
    for word in ("href=", "src=", "url(", "style=", "class=", "data-", hostname()):
        assert word not in shown.replace(latex, ""), word


@pytest.mark.parametrize(
    "latex",
    [
        r"\input{/etc/hostname}",
        r"\write18{touch x}",
        r"\immediate\write18{id}",
        r"\openin5=/etc/hostname",
        r"\catcode`\%=12",
        r"\csname @@input\endcsname /etc/hostname",
    ],
)
def test_formulas_run_nothing(latex):
    assert hostname() not in repr(render(latex)).replace(latex, "")


def hostname():
    return Path("/etc/hostname").read_text("utf-8").strip() + " "
