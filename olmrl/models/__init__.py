"""Model families: everything that olmrl knows of one architecture, one module each."""
