# `make bench`: figures beside their references; the lab's part runs when a lab is up.

.PHONY: bench
bench: setup ## measure, print, and update docs/benchmarks.md
	PYTHONPATH=files/runtime:tests python tests/bench/bench_limits.py --write
	PYTHONPATH=files/runtime:tests python tests/bench/bench_leases.py --write
	PYTHONPATH=files/runtime:tests python tests/bench/bench_pump.py --write
	PYTHONPATH=files/runtime:tests python tests/bench/bench_door.py --write
	PYTHONPATH=files/runtime:tests python tests/bench/bench_owners.py --write
	@if tests/lab/lab status >/dev/null 2>&1; then python tests/bench/bench_lab.py --write; \
	else echo "no lab is up: 'make lab' first for the figures of the lab host"; fi

.PHONY: bench-door
bench-door: setup ## measure the door beside HAProxy and no door at all; as root
	PYTHONPATH=files/runtime:tests python tests/bench/bench_door.py --write
