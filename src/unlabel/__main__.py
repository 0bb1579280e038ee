"""``python -m unlabel``: the command line."""

from unlabel.cli.app import main

if __name__ == "__main__":
    main()
