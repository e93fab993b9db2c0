# `make soak`: many processes against one lease book, killed at every step; takes half an hour.

SOAK_REQUESTS ?= 100000

.PHONY: soak
soak: setup ## ask the lease book 100,000 times, killing at every step
	PYTHONPATH=files/runtime:tests nice -n 15 python -m soak.soak --requests $(SOAK_REQUESTS) --processes 8
