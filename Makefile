# Short names for the commands of launch/local.sh, which sets the environment up where there is none.
.PHONY: check docs format test slow audit vllm-range

check:  # before a commit: lint, format, types, and the tests of single modules
	bash launch/local.sh check
	bash launch/local.sh test -q tests/unit

format:  # change the code to what check wants, where that can be done by itself
	bash launch/local.sh format

docs:  # the documentation as a site, in site/
	bash launch/local.sh docs

test:  # what CI runs after the checks
	bash launch/local.sh test -q

slow:  # whole runs of minutes each
	bash launch/local.sh test -q -m slow

audit:  # known vulnerabilities of the installed packages; needs the network and uv
	bash launch/local.sh audit

vllm-range:  # both ends of the range of vLLM versions that pyproject.toml allows
	.ci/vllm_range
