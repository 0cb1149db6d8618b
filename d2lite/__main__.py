"""`python -m d2lite COMMAND ...`, which is the program `d2lite`."""

from d2lite.commands import main

if __name__ == "__main__":
    main()
