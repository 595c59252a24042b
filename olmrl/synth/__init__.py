"""Pages with known truth, unit tests from truth, and a tiny model to read them.

What learning is tested on is made by the two modules here: `pages` writes folders of invented
pages, `model` a tiny model of a family. The rest serves the other commands (`__main__`), in rooms,
each of which imports only rooms above it in this list:

    invented    pages of a few words, for `pages`
    web         HTML from outside as safe blocks, their pages, and the browser that sets them
    proof       what a page shows, what its truth says, and whether the two agree
    cleaning    what no data set should have
    derived     unit tests that follow from a page's truth
    variants    further versions of a page
    asking      questions to a vision model, each paid for once
    making      what every way of making pages shares
    documents   `from-html` and `from-docs`
    pdfs        `from-pdfs`
"""
