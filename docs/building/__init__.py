"""What builds the site: see `mkdocs.yml`."""
