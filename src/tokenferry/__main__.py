import sys

from tokenferry.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
