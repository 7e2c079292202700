"""Never imported: tokenferry only reads tokenferry.toml in this folder."""

raise RuntimeError("tokenferry reads the declaration and imports nothing")
