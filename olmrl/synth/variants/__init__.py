"""Further versions of a page: scanned, turned, fuller, or with typing errors."""
