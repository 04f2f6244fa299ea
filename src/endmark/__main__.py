"""`python -m endmark` is the program `endmark`."""

from endmark.cli import main

main()
