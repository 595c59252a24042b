"""Pages with known truth, and a tiny model to read them: the ground that learning is tested on.

`sheet` invents and draws a page, `labels` transcribes it (rightly, or with a labeller's bad
habits), `truth` states it as olmOCR-bench unit tests, `pages` writes whole folders, `model` makes
a tiny Qwen2.5-VL. `derive` states the truth of anybody's pages as unit tests.
"""
