"""Pages with known truth, and a tiny model to read them: what learning is tested on.

`sheet` invents and draws a page, `labels` transcribes it (correctly, or with a labeller's bad
habits), `truth` expresses it as olmOCR-bench unit tests, `pages` writes whole folders, `model`
makes a tiny model of a family. `derive` makes unit tests from the truth of any pages.
"""
