"""The lab host: a Debian virtual machine that the tests and `make lab` provision for real."""
