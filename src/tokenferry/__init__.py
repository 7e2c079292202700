"""Log in once; every program on the machine gets a token that works."""
