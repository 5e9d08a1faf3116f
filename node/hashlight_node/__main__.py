"""`python -m hashlight_node` is `hashlight`."""

from hashlight_node.cli import main

if __name__ == "__main__":
    main()
