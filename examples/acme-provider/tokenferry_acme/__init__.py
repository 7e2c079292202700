"""Never imported by tokenferry: it reads tokenferry.toml, which lies beside this file."""

raise RuntimeError("tokenferry reads the declaration and imports nothing")
