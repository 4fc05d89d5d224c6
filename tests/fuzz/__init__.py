"""Files that anyone may have written, fed to everything that reads them: `python -m tests.fuzz --seconds N`.

`targets` says what is read and how the bytes get there, `seeds` makes sound files to start from and hostile ones,
`guard` bounds memory and time, `mutation` is the fuzzer without a library; with atheris installed the long form is
guided by coverage.
"""
