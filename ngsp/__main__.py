from ngsp.cli import main

main()
