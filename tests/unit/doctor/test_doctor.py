"""`olmrl doctor`: each trouble of a machine gets its line, its level and a remedy."""

import importlib.util
import py_compile
import sys
from dataclasses import replace

import pytest

from olmrl.doctor import facts as gathered
from olmrl.doctor.__main__ import main
from olmrl.doctor.checks import Level, failed, judge
from olmrl.doctor.facts import DiskFact, Facts, gather, parse_cpuinfo, parse_gpus, usable_gpus
from olmrl.hardware import GIB

H100 = "NVIDIA H100 80GB HBM3, 81559, 4, 580.95.05, Disabled, 9.0"
OLD = "Tesla V100-SXM2-16GB, 16384, 0, 580.95.05, [N/A], 7.0"
GPU_MACHINE = Facts(
    python=(3, 11, 9),
    requirements=("torch>=2.11", "huggingface_hub>=0.30", "vllm>=0.32; extra == 'gpu'"),
    versions={"torch": "2.14.0", "huggingface-hub": "0.31", "vllm": "0.33.0", "ray": "2.60.0"}
    | {"nvidia-nccl-cu13": "2.28.9", "playwright": "1.5", "transformers": "5.17"},
    vllm_problem="",
    gpus=parse_gpus(f"{H100}\n{H100}\n"),
    torch_cuda="13.0",
    shared_memory=(int(16 * GIB), int(16 * GIB)),
    browser="/usr/bin/chromium",
    address="10.0.0.7",
    host="node-7",
    host_address="10.0.0.7",
    disks=(DiskFact("runs", "/data", int(900 * GIB), int(1000 * GIB)),),
    memory=int(500 * GIB),
    cpu="EPYC",
    cores=64,
    usable_cores=64.0,
    open_files=65536,
)
CPU_MACHINE = replace(GPU_MACHINE, gpus=(), torch_cuda=None, cpu_flags=frozenset({"avx512_bf16"}))


def named(facts, subject):
    return [line for line in judge(facts) if line.subject == subject]


def test_a_good_machine_passes_every_check():
    lines = judge(GPU_MACHINE)
    assert {line.level for line in lines} == {Level.OK}
    assert not failed(lines)
    (gpu,) = named(GPU_MACHINE, "GPU")
    assert gpu.text == "2 x NVIDIA H100 80GB HBM3 (80 GiB)"


def test_a_machine_without_gpus_passes_with_a_note():
    lines = judge(CPU_MACHINE)
    assert not failed(lines)
    assert [line.subject for line in lines if line.level is Level.NOTE] == ["GPU"]


TROUBLES = [
    ("packages", Level.FAIL, {"requirements": None}, "not installed", "pip install"),
    ("packages", Level.FAIL, {"versions": {"torch": "2.9"}}, "torch 2.9, needed is >=2.11", "-U"),
    ("packages", Level.FAIL, {"versions": {"torch": "2.14"}}, "huggingface_hub>=0.30 is missing",
     "pip"),
    ("packages", Level.FAIL,
     {"versions": {"torch": "2.13.0+cpu", "huggingface-hub": "1", "torchaudio": "2.11.1"}},
     "torchaudio for CUDA", "pip uninstall -y torchaudio"),
    ("vLLM", Level.FAIL, {"vllm_problem": "vllm 0.11 is installed, and olmrl works with 0.32; pip "
     "install x"}, "0.11", "pip install x"),
    ("vLLM", Level.FAIL, {"vllm_problem": "vllm is not installed; pip install y"}, "not", "y"),
    ("GPU", Level.FAIL, {"gpus": (), "gpu_problem": "Driver/library version mismatch"}, "mismatch",
     "restart"),
    ("GPU", Level.FAIL, {"gpus": parse_gpus(OLD)}, "7.0: no bfloat16", "8.0"),
    ("GPU", Level.FAIL, {"visible_devices": ""}, "CUDA_VISIBLE_DEVICES", "unset"),
    ("GPU", Level.NOTE, {"gpus": parse_gpus(H100.replace("H100", "X9"))}, "no step time", ""),
    ("MIG", Level.FAIL, {"gpus": parse_gpus(H100.replace("Disabled", "Enabled"))}, "slices",
     "nvidia-smi -mig 0"),
    ("GPU memory", Level.NOTE, {"gpus": parse_gpus(H100.replace(" 4,", " 40960,"))},
     "GPU 0: 40 GiB", "nvidia-smi"),
    ("driver", Level.FAIL, {"torch_cuda": None}, "build for CPUs", "olmrl[gpu]"),
    ("driver", Level.FAIL, {"gpus": parse_gpus(H100.replace("580.95.05", "570.124.06"))},
     "needs 580 or newer", "update"),
    ("bytecode", Level.NOTE, {"uncompiled": "/venv/site-packages"}, "compiles them again",
     "compileall -q -j 0 /venv/site-packages"),
    ("NCCL", Level.FAIL, {"versions": {"nvidia-nccl-cu12": "2.27"}}, "there is nvidia-nccl-cu12",
     "pip install nvidia-nccl-cu13"),
    ("shared memory", Level.FAIL, {"shared_memory": (64 << 20, 64 << 20)}, "0.1 GiB", "--shm-size"),
    ("shared memory", Level.NOTE, {"shared_memory": (1 << 30, 8 << 30)}, "1.0 of 8.0",
     "--shm-size"),
    ("Chromium", Level.NOTE, {"browser": ""}, "not found", "playwright install"),
    ("network", Level.FAIL, {"host_address": ""}, "node-7 stands for no address", "/etc/hosts"),
    ("network", Level.NOTE, {"host_address": "127.0.1.1"}, "127.0.1.1", "GLOO_SOCKET_IFNAME"),
    ("network", Level.NOTE, {"address": ""}, "one node only", ""),
    ("proxy", Level.FAIL, {"proxies": frozenset({"http_proxy"})}, "http_proxy", "no_proxy"),
    ("disk", Level.NOTE, {"disks": (DiskFact("runs", "/small", 5 << 30, 20 << 30),)}, "5 GiB",
     "90 GiB"),
    ("disk", Level.FAIL, {"disks": (DiskFact("Ray's files", "/tmp", 40 << 30, 1000 << 30),)},
     "96% full", "RAY_TMPDIR"),
    ("CPU", Level.FAIL, {"memory": 2 << 30}, "too little memory", "8 GiB"),
    ("open files", Level.NOTE, {"open_files": 1024}, "1024", "ulimit"),
]  # fmt: skip


@pytest.mark.parametrize(("subject", "level", "changes", "text", "remedy"), TROUBLES)
def test_a_trouble_is_named_with_what_to_do(subject, level, changes, text, remedy):
    lines = named(replace(GPU_MACHINE, **changes), subject)
    (found,) = [line for line in lines if line.level is level]
    assert text in found.text and remedy in found.remedy
    assert failed([found]) == (level is Level.FAIL)


def test_a_cpu_without_bfloat16_is_told_which_keys_to_set():
    (line,) = named(replace(CPU_MACHINE, cpu_flags=frozenset({"avx2"})), "CPU")
    assert line.level is Level.NOTE and "model.dtype=float32" in line.remedy
    (line,) = named(replace(GPU_MACHINE, cpu_flags=frozenset({"avx2"})), "CPU")
    assert line.level is Level.OK


def test_without_vllm_a_cpu_machine_still_works():
    problem = "vllm is not installed; pip install y"
    lines = judge(replace(CPU_MACHINE, vllm_problem=problem))
    assert not failed(lines)
    assert "rollout.engine=hf" in next(line.text for line in lines if line.subject == "vLLM")


@pytest.mark.parametrize("no_proxy", ["localhost,10.0.0.0/8", "127.0.0.1", " * "])
def test_a_proxy_that_leaves_this_machine_alone_is_fine(no_proxy):
    facts = replace(GPU_MACHINE, proxies=frozenset({"https_proxy"}), no_proxy=no_proxy)
    assert named(facts, "proxy") == []


@pytest.mark.parametrize(
    ("cuda", "driver", "fine"),
    [("12.8", "525.60.13", True), ("13.1", "579.9", False), ("99.0", "1.0", True)],
)
def test_drivers_are_known_by_the_major_version_of_cuda(cuda, driver, fine):
    gpus = parse_gpus(H100.replace("580.95.05", driver))
    (line,) = named(replace(GPU_MACHINE, gpus=gpus, torch_cuda=cuda), "driver")
    assert (line.level is Level.OK) == fine


@pytest.mark.parametrize(
    ("visible", "count"), [(None, 2), ("0", 1), ("0,1,2", 2), ("", 0), ("-1", 0), ("GPU-1f", 1)]
)
def test_gpus_that_may_be_used_are_those_that_are_there_and_visible(
    tmp_path, monkeypatch, visible, count
):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\nprintf '%s\\n' '{H100}' '{H100}'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert usable_gpus() == count


def test_answers_of_nvidia_smi_are_read_or_refused():
    gpu, _ = parse_gpus(f"{H100}\n\n{OLD}\n")
    assert (gpu.memory_mib, gpu.driver) == (81559, "580.95.05")
    assert (gpu.mig, gpu.capability) == (False, (9, 0))
    grace = parse_gpus("NVIDIA GB10, [N/A], [N/A], 580.1, [N/A], 12.1")
    assert grace[0].memory_mib == 0.0
    for wrong in ("No devices were found", "a, b, c, d, e, f"):
        with pytest.raises(ValueError, match=r".+"):
            parse_gpus(wrong)


def test_cpuinfo_of_both_makes():
    x86 = "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu amx_bf16\n\nprocessor\t: 1\n"
    assert parse_cpuinfo(x86) == ("Xeon", frozenset({"fpu", "amx_bf16"}))
    arm = "processor\t: 0\nBogoMIPS\t: 1\nFeatures\t: asimd bf16\n"
    assert parse_cpuinfo(arm) == ("", frozenset({"asimd", "bf16"}))
    assert parse_cpuinfo("") == ("", frozenset())


def test_the_command_never_shows_a_key(monkeypatch, capsys):
    secret = "hf_do_not_show_me"
    monkeypatch.setenv("HF_TOKEN", secret)
    monkeypatch.setenv("https_proxy", f"http://user:{secret}@proxy:3128")
    assert "HF_TOKEN" in gather().keys
    assert secret not in repr(gather())
    main([])
    shown = capsys.readouterr()
    assert secret not in shown.out + shown.err
    assert "HF_TOKEN" in shown.out.split("set:")[1].split("; not set")[0]


def test_exit_codes(monkeypatch, capsys):
    for facts, code in ((GPU_MACHINE, 0), (CPU_MACHINE, 0), (replace(GPU_MACHINE, memory=1), 1)):
        monkeypatch.setattr("olmrl.doctor.__main__.gather", lambda folder, facts=facts: facts)
        assert main([]) == code
        assert all(len(line) <= 100 for line in capsys.readouterr().out.splitlines())


def test_a_torch_build_is_known_without_importing_torch(monkeypatch, tmp_path):
    for text, cuda in [
        ("cuda: Optional[str] = '13.0'\n", "13.0"),
        ("__version__ = '2.9'\ncuda = None\n", None),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.1'\n", None),
    ]:
        (tmp_path / "__init__.py").write_text("")
        (tmp_path / "version.py").write_text(text)

        class Spec:
            origin = str(tmp_path / "__init__.py")

        monkeypatch.setattr(gathered.importlib.util, "find_spec", lambda name, spec=Spec: spec)
        assert gathered._torch_cuda() == cuda


def test_packages_without_bytecode_are_named_only_where_python_writes_none(monkeypatch, tmp_path):
    source = tmp_path / "ray" / "__init__.py"
    source.parent.mkdir()
    source.write_text("")
    spec = importlib.util.spec_from_file_location("ray", source)
    monkeypatch.setattr(gathered.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert gathered._uncompiled() == ""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert gathered._uncompiled() == str(tmp_path)
    py_compile.compile(str(source))
    assert gathered._uncompiled() == ""
