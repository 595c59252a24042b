"""Users' own HTML and office documents as pages, without any model."""
